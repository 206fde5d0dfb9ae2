"""Pairs of pictures and masks by base name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.foreground import MaskFile, read_foreground
from gensegcli.sources.raw import SizeMismatchError

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = {"train": [("elsewhere/im", "elsewhere/gt"), ("set/im", "set/gt")]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, ending in (("a", "jpg"), ("b", "jpg"), ("x-NonCAM-1", "jpg"), ("notes", "txt")):
        (tmp_path / "set" / "im").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "im" / f"{name}.{ending}").write_bytes(b"-")
    (tmp_path / "set" / "gt").mkdir()
    grey = np.zeros((4, 6), np.uint8)
    grey[1, 1:4] = (127, 128, 255)
    Image.fromarray(grey).save(tmp_path / "set" / "gt" / "a.png")
    return tmp_path


def test_pairs_by_name_and_what_is_left_out(root: Path) -> None:
    raw = read_foreground(
        root, dataset="cod10k", split="train", folders=FOLDERS, query="the camouflaged object", leave_out=["NonCAM"]
    )

    assert [ref.id for ref in raw.refs] == ["a", "b"]
    assert raw.refs[1].problem is not None
    assert raw.refs[1].problem.reason == "mask missing"
    assert raw.refs[0].sentences[0].text == "the camouflaged object"


def test_brighter_than_127_is_foreground(root: Path) -> None:
    mask = MaskFile(root / "set" / "gt" / "a.png")

    assert mask.read(Size(6, 4)).sum() == 2
    with pytest.raises(SizeMismatchError):
        mask.read(Size(4, 6))


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(np.eye(4, 6, dtype=np.uint8)),
        Image.fromarray(np.dstack([np.eye(4, 6, dtype=np.uint8) * 255] * 4)),
        Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 255),
    ],
)
def test_truth_is_read_as_predictions_are(tmp_path: Path, mask: Image.Image) -> None:
    """0 and 1, white on transparent, 0 and 255: the same mask, as evaluate/given.py reads it."""
    mask.save(tmp_path / "m.png")

    np.testing.assert_array_equal(MaskFile(tmp_path / "m.png").read(Size(6, 4)), np.eye(4, 6, dtype=bool))


def test_numbers_of_objects_are_no_truth(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 2).save(tmp_path / "m.png")

    with pytest.raises(GensegError, match="grey values 0, 2, expected 0 and 1, or 0 and 255"):
        MaskFile(tmp_path / "m.png").read(Size(6, 4))


def test_two_masks_or_two_pictures_of_one_name(root: Path) -> None:
    for name in ("gt/a.bmp", "im/b.png"):
        (root / "set" / name).write_bytes(b"-")

    refs = read_foreground(root, dataset="d", split="train", folders=FOLDERS, query="q").refs

    assert [(ref.id, ref.problem and ref.problem.reason) for ref in refs] == [
        ("a", "several masks"),
        ("b", "mask missing"),
        ("b", "duplicate"),
        ("x-NonCAM-1", "mask missing"),
    ]


def test_what_was_looked_for(root: Path) -> None:
    with pytest.raises(GensegError, match=r"looked for .*none/im"):
        read_foreground(root, dataset="d", split="train", folders={"train": [("none/im", "none/gt")]}, query="q")
    with pytest.raises(GensegError, match="has no split 'val'"):
        read_foreground(root, dataset="d", split="val", folders=FOLDERS, query="q")
