"""ReasonSeg: painting order, ignored pixels, old encodings; on the two real pictures and on small made ones."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.reasonseg import paint, read_json, read_reasonseg

if TYPE_CHECKING:
    from pathlib import Path

SIZE = Size(30, 20)
SQUARE = [[2.0, 2.0], [20.0, 2.0], [20.0, 15.0], [2.0, 15.0]]
PATCH = [[5.0, 5.0], [9.0, 5.0], [9.0, 9.0], [5.0, 9.0]]


@pytest.fixture
def folder(tmp_path: Path, shared_data: Path) -> Path:
    shutil.copytree(shared_data / "mini" / "reason_seg" / "ReasonSeg" / "val", tmp_path / "ReasonSeg" / "val")
    for path in (tmp_path / "ReasonSeg" / "val").iterdir():
        path.chmod(0o644)
    (tmp_path / "ReasonSeg" / "val").chmod(0o755)
    return tmp_path / "ReasonSeg" / "val"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_real_files(shared_data: Path) -> None:
    raw = read_reasonseg(shared_data / "mini" / "reason_seg", split="val")

    assert raw.counts == (2, 2, 3)
    batter, skier = raw.refs
    assert [ref.provenance["kind"] for ref in raw.refs] == ["sentence", "phrase"]
    assert [len(ref.sentences) for ref in raw.refs] == [2, 1]
    assert skier.ignore is None
    assert batter.ignore is not None
    assert batter.targets[0].mask is not None
    size = Size(640, 429)
    found, ignored = batter.targets[0].mask.read(size), batter.ignore.read(size)
    assert found.any()
    assert ignored.any()
    assert not (found & ignored).any()


def test_the_same_pixels_as_lisa_paints(shared_data: Path) -> None:
    """Its reader, written down again from the facts: fill and outline of whole-number corners, larger ones first."""
    path = shared_data / "mini" / "reason_seg" / "ReasonSeg" / "val" / "196141_o.json"
    shapes = [s for s in json.loads(path.read_text())["shapes"] if s["label"] != "flag"]
    theirs = np.zeros((429, 640), np.uint8)
    areas = []
    for shape in shapes:
        alone = np.zeros_like(theirs)
        corners = np.array([shape["points"]], dtype=np.int32)
        cv2.polylines(alone, corners, True, 1, 1)
        cv2.fillPoly(alone, corners, 1)
        areas.append(alone.sum())
    for place in np.argsort(areas)[::-1]:
        corners = np.array([shapes[place]["points"]], dtype=np.int32)
        value = 255 if "ignore" in shapes[place]["label"] else 1
        cv2.polylines(theirs, corners, True, value, 1)
        cv2.fillPoly(theirs, corners, value)

    ref = read_reasonseg(shared_data / "mini" / "reason_seg", split="val").refs[0]

    assert ref.targets[0].mask is not None
    assert ref.ignore is not None
    np.testing.assert_array_equal(ref.targets[0].mask.read(Size(640, 429)), theirs == 1)
    np.testing.assert_array_equal(ref.ignore.read(Size(640, 429)), theirs == 255)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_smaller_polygon_covers_a_larger_one_wherever_it_stands_in_the_file(order: tuple[int, int]) -> None:
    shapes = [(SQUARE, 1), (PATCH, 255)]

    painted = paint([shapes[place] for place in order], SIZE)

    assert painted[7, 7] == 255
    assert painted[3, 3] == 1
    assert (painted == 255).sum() == 25, "5 x 5: corners 5 to 9, the outline included"


def test_corners_are_cut_and_not_rounded() -> None:
    np.testing.assert_array_equal(
        paint([([[x + 0.99, y + 0.99] for x, y in PATCH], 1)], SIZE), paint([(PATCH, 1)], SIZE)
    )


def test_windows_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"text": ["the man\x92s hat"]}')
    assert read_json(tmp_path / "a.json")["text"] == ["the man’s hat"]


def test_what_cannot_be_used_is_said(folder: Path) -> None:
    change(folder / "785_o.json", shapes=[{"label": "flag", "points": SQUARE}, {"label": "ignore", "points": SQUARE}])
    (folder / "196141_o.jpg").unlink()
    (folder / "alone.jpg").write_bytes(b"")
    (folder / "bad.json").write_text('{"text": []}')

    reasons = {ref.id: ref.problem.reason for ref in read_reasonseg(folder.parents[1], split="val").refs if ref.problem}

    assert reasons == {
        "785_o": "no object",
        "196141_o": "picture missing",
        "alone": "annotation missing",
        "bad": "annotation damaged",
    }


def test_no_such_split(shared_data: Path) -> None:
    with pytest.raises(GensegError, match="ReasonSeg test not found; looked for"):
        read_reasonseg(shared_data / "mini" / "reason_seg", split="test")
