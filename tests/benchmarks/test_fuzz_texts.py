"""The fuzzer of texts: it finds nothing in the readers, and finds what is put there."""

from __future__ import annotations

import json
import random
import re
from itertools import accumulate, islice
from typing import TYPE_CHECKING

import pytest

from benchmarks import fuzz_texts
from gensegcli.dialects import DIALECTS, json_text
from gensegcli.records import Answer, GridBox, Instance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [11, 12])
def test_readers_without_a_fault(seed: int) -> None:
    tally = fuzz_texts.run_chunk(seed, 0, 400, slow=10.0)

    assert tally.texts == 400
    assert tally.faults == {}, tally.examples
    for outcome in ("strict found", "strict nothing there", "tolerant found", "tolerant nothing there"):
        assert tally.readings[outcome] > 0, outcome


def test_texts_of_one_seed_are_the_same_and_hold_what_the_guard_is_for() -> None:
    found = [list(islice(fuzz_texts.texts(random.Random(3)), 2000)) for _ in range(2)]

    assert found[0] == found[1]
    for piece in ("]" * 3000, "<|im_end|>", "\u2028", "\ud800", "\uff0c", "'bbox"):
        assert any(piece in text for text in found[0]), piece[:20]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer((Instance(GridBox(5, 5, 5, 9)),)), "tolerant: a box off the grid or without area"),
        (Answer(()), "an abstention out of nothing"),
        (RecursionError("too deep"), "RecursionError in test_fuzz_texts.py:"),
    ],
)
def test_a_reader_with_a_fault_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: Answer | RecursionError, fault: str
) -> None:
    def read(*_: object, **__: object) -> Answer:
        if isinstance(answer, RecursionError):
            raise answer
        return answer

    monkeypatch.setattr(DIALECTS["genseg"], "read", read)
    tally = fuzz_texts.run_chunk(0, 0, 5, slow=10.0)

    assert any(what.startswith(fault) for what in tally.faults), tally.faults
    assert fault in fuzz_texts.table(tally)


def test_a_guard_that_counts_brackets_inside_strings_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which stood in the readers once: a string full of closing brackets paid for the opening ones behind it."""

    def too_deep(text: str) -> bool:
        depth = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
        return any(deep > json_text.MAX_DEPTH for deep in depth)

    monkeypatch.setattr(json_text, "_too_deep", too_deep)
    tally = fuzz_texts.run_chunk(0, 0, 300, slow=10.0)

    assert any(what.startswith("RecursionError in ") for what in tally.faults), tally.faults


def test_a_run_goes_on_where_its_log_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz_texts, "CHUNK", 20)
    arguments = ["--count", "50", "--seed", "5", "--log", str(tmp_path / "log.jsonl")]
    assert fuzz_texts.main(arguments) == 0
    first = capsys.readouterr().out
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["size"] for line in lines] == [20, 20, 10]

    monkeypatch.setattr(fuzz_texts, "run_chunk", None)
    assert fuzz_texts.main(arguments) == 0
    assert capsys.readouterr().out == first
