"""The table of protocols: every convention is a named setting, and no code asks for a protocol's name."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

import gensegcli.metrics
from gensegcli.config import EvalSettings
from gensegcli.errors import ExitCode, GensegError
from gensegcli.metrics.overlap import IgnoreRule
from gensegcli.metrics.protocols import (
    DEFAULT,
    PROTOCOLS,
    BoxScore,
    NoTarget,
    Protocol,
    Sentences,
    chosen_protocol,
    get_protocol,
    protocol_from_json,
)


def conventions(protocol: Protocol) -> tuple[object, ...]:
    return (
        protocol.sentences,
        protocol.no_target,
        protocol.ignore,
        protocol.zero_over_zero,
        protocol.smoothing,
        protocol.mean_name,
    )


def test_the_conventions_of_each_protocol() -> None:
    first, every = Sentences.FIRST, Sentences.EVERY
    out, joined = IgnoreRule.EXCLUDED, IgnoreRule.FOREGROUND
    assert {name: conventions(protocol) for name, protocol in PROTOCOLS.items()} == {
        "genseg": (first, NoTarget.APART, out, 1.0, 0.0, "mIoU"),
        "gres": (every, NoTarget.BY_FLAG, out, 1.0, 0.0, "gIoU"),
        "lisa": (every, NoTarget.BY_PIXELS, out, 1.0, 1e-5, "gIoU"),
        "seg-zero": (first, NoTarget.BY_PIXELS, joined, 0.0, 0.0, "gIoU"),
        "res": (every, NoTarget.BY_PIXELS, out, 1.0, 0.0, "mIoU"),
    }
    assert DEFAULT == "genseg"
    assert not any(protocol.inclusive_boxes or protocol.tiny_area for protocol in PROTOCOLS.values())


def test_an_unknown_name_gets_the_nearest_and_all_others() -> None:
    with pytest.raises(GensegError) as caught:
        get_protocol("seg_zero")

    assert caught.value.message == "unknown protocol 'seg_zero'"
    assert caught.value.hint == "did you mean seg-zero? known: genseg, gres, lisa, res, seg-zero"
    assert caught.value.code is ExitCode.NOT_FOUND
    assert get_protocol("lisa") is PROTOCOLS["lisa"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_convention_is_in_the_record(name: str) -> None:
    record = orjson.loads(orjson.dumps(PROTOCOLS[name].to_json()))

    assert list(record) == [field.name for field in dataclasses.fields(Protocol)]
    assert record["name"] == name
    assert record["thresholds"] == [0.5, 0.6, 0.7, 0.8, 0.9]


def test_variants_are_recorded_as_what_they_are() -> None:
    variant = dataclasses.replace(PROTOCOLS["genseg"], inclusive_boxes=True, tiny_area=50)

    assert {key: value for key, value in variant.to_json().items() if value != PROTOCOLS["genseg"].to_json()[key]} == {
        "inclusive_boxes": True,
        "tiny_area": 50,
    }


WORDS = {
    Sentences.FIRST: "the first sentence of a reference",
    Sentences.EVERY: "every sentence",
    NoTarget.APART: "apart",
    NoTarget.BY_FLAG: "IoU by the flag",
    NoTarget.BY_PIXELS: "by pixels",
    IgnoreRule.EXCLUDED: "leave both masks",
    IgnoreRule.FOREGROUND: "become foreground",
}


def test_the_page_shows_the_table(project_root: Path) -> None:
    page = (project_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith(tuple(f"| `{name}` |" for name in PROTOCOLS))]

    assert shown == [
        f"| `{one.name}` | {WORDS[one.sentences]} | {WORDS[one.no_target]} | {WORDS[one.ignore]} "
        f"| {one.zero_over_zero:g} | {one.smoothing:g} | {one.mean_name} |"
        for one in PROTOCOLS.values()
    ]


def test_no_code_branches_by_a_protocols_name() -> None:
    folder = Path(gensegcli.metrics.__path__[0])
    for path in folder.glob("*.py"):
        if path.name == "protocols.py":
            continue
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not constants & set(PROTOCOLS), path.name


def test_settings_change_single_conventions_of_a_protocol() -> None:
    assert chosen_protocol(EvalSettings()) == PROTOCOLS["genseg"]
    assert chosen_protocol(EvalSettings()).changes == {}
    found = chosen_protocol(EvalSettings(protocol="gres", box_score="segmenter", tiny_area=50, inclusive_boxes=True))
    assert found == replace(PROTOCOLS["gres"], box_score=BoxScore.SEGMENTER, tiny_area=50, inclusive_boxes=True)
    assert found.changes == {"box_score": "segmenter", "tiny_area": 50, "inclusive_boxes": True}
    assert protocol_from_json(found.to_json()) == found


def test_a_protocol_that_was_written_by_another_version_is_told() -> None:
    with pytest.raises(GensegError, match=r"protocol: no_target: .*'sometimes' found"):
        protocol_from_json(PROTOCOLS["gres"].to_json() | {"no_target": "sometimes"})
