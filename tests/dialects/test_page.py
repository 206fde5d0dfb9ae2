"""docs/answers.md: every answer that it shows is read as it says, by every dialect that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gensegcli.dialects import DIALECTS, get_dialect
from gensegcli.policy.scripted import ScriptedPolicy
from gensegcli.records import Answer, RefusalKind, Size

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "answers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- example: ([\w -]+): ([^>]+) -->\n```text\n(.*?)\n```", PAGE, flags=re.DOTALL)
FRAMES = {name: Size(840, 840) for name in ("genseg-pixels", "seg-zero", "vision-reasoner", "visurf", "seg-r1")}
SHOWN = [(name, expected, text) for names, expected, text in EXAMPLES for name in names.split()]
STRICT = PAGE.partition("## Two readers")[0]


@pytest.mark.parametrize(("name", "expected", "text"), SHOWN)
def test_an_answer_is_read_as_the_page_says(name: str, expected: str, text: str) -> None:
    found = get_dialect(name).read(text, frame=FRAMES.get(name))
    if not expected[0].isdecimal():
        assert found.kind is RefusalKind(expected)
        return
    assert isinstance(found, Answer), found
    count, *rest = expected.split(", ")
    assert len(found.instances) == int(count)
    assert (found.dropped, found.clipped) == _counts(rest)


def _counts(words: list[str]) -> tuple[dict[str, int], int]:
    counts = {word.removeprefix("dropped ").split(" ")[0]: int(word.rsplit(" ", 1)[1]) for word in words}
    return {name: count for name, count in counts.items() if name != "clipped"}, counts.get("clipped", 0)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, _, text in SHOWN if f"\n{text}\n" in STRICT])
def test_the_forms_are_those_of_strict_reading_too(name: str, text: str) -> None:
    dialect = get_dialect(name)

    assert dialect.read(text, frame=FRAMES.get(name), strict=True) == dialect.read(text, frame=FRAMES.get(name))


def test_every_dialect_and_kind_of_end_is_shown() -> None:
    """Each dialect with an object and with none, and each listed in the table."""
    for name in DIALECTS:
        assert {expected[0] == "0" for shown, expected, _ in SHOWN if shown == name} == {True, False}, name
        assert f"`{name}`" in PAGE.partition("## The form")[0]


def test_the_file_of_answers_is_one(tmp_path: Path) -> None:
    shown = re.findall(r"<!-- answers -->\n```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "answers.jsonl").write_text(shown[0], encoding="utf-8")

    assert ScriptedPolicy(tmp_path / "answers.jsonl").revision
