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


def test_what_was_looked_for(root: Path) -> None:
    with pytest.raises(GensegError, match=r"looked for .*none/im"):
        read_foreground(root, dataset="d", split="train", folders={"train": [("none/im", "none/gt")]}, query="q")
    with pytest.raises(GensegError, match="has no split 'val'"):
        read_foreground(root, dataset="d", split="val", folders=FOLDERS, query="q")
