"""ReasonSeg: painting order, ignored pixels, old encodings; on the two real pictures and on small made ones."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.labelme import Shape
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


LISA = {
    "196141_o": (
        Size(640, 429),
        "9873d2977513b625f3942e07b7e79c917fbf263015938a68cb3ef9b8f1df7e06",
        "ad049eec4f4c1049d5e3286d338c717c3d6060505773a1a1d5ccb6a6d22ec857",
    ),
    "785_o": (Size(640, 425), "6b62850c85b36f6977bc59b20cb3cb78fd1cb05b867a6bca5d9cc8dc3d55b275", ""),
}
"""Size of the two real pictures, digests of their objects and of their ignored pixels."""


@pytest.mark.parametrize("name", LISA)
def test_the_same_pixels_as_lisa_paints(name: str, shared_data: Path) -> None:
    """The digests are of what its reader, written down again from the facts, paints with OpenCV 4.8.0, which it pins."""
    (ref,) = (ref for ref in read_reasonseg(shared_data / "mini" / "reason_seg", split="val").refs if ref.id == name)
    size, *digests = LISA[name]

    found = [
        sha256(np.packbits(mask.read(size))).hexdigest() if mask else "" for mask in (ref.targets[0].mask, ref.ignore)
    ]

    assert found == digests


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_smaller_polygon_covers_a_larger_one_wherever_it_stands_in_the_file(order: tuple[int, int]) -> None:
    shapes = [(Shape("polygon", SQUARE), 1), (Shape("polygon", PATCH), 255)]

    painted = paint([shapes[place] for place in order], SIZE)

    assert painted[7, 7] == 255
    assert painted[3, 3] == 1
    assert (painted == 255).sum() == 25, "5 x 5: corners 5 to 9, the outline included"


def test_corners_are_cut_and_not_rounded() -> None:
    moved = [[x + 0.99, y + 0.99] for x, y in PATCH]
    np.testing.assert_array_equal(
        paint([(Shape("polygon", moved), 1)], SIZE), paint([(Shape("polygon", PATCH), 1)], SIZE)
    )


def test_windows_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"text": ["the man\x92s hat"]}')
    assert read_json(tmp_path / "a.json")["text"] == ["the man’s hat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": ["\x81"]}', r"neither UTF-8 nor cp1252 \(byte 0x81 in line 1\)"),
        ('{"text": ["a"]}'.encode("utf-16"), "UTF-16, expected UTF-8"),
        (b'{"text": ["a"], "text": ["b"]}', "the key 'text' stands twice"),
        (b'["a"]', "a JSON object expected, a list found"),
        (b'{"text": [', "not JSON"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GensegError, match=message):
        read_json(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"text": ["a"]}')
    assert read_json(tmp_path / "a.json") == {"text": ["a"]}


def write(folder: Path, name: str, **content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(folder / f"{name}.jpg")
    whole = {"text": ["the thing"], "shapes": [{"label": "target", "points": SQUARE, "shape_type": "polygon"}]}
    (folder / f"{name}.json").write_text(json.dumps(whole | content))


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".Jpeg", ".PNG"])
def test_a_picture_is_found_whatever_the_case_of_its_ending(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "ReasonSeg" / "val", "a")
    (tmp_path / "ReasonSeg" / "val" / "a.jpg").rename(tmp_path / "ReasonSeg" / "val" / f"a{suffix}")

    (ref,) = read_reasonseg(tmp_path, split="val").refs

    assert ref.problem is None
    assert ref.picture is not None
    assert ref.picture.name == f"a{suffix}"


@pytest.mark.parametrize(
    ("shape", "detail"),
    [
        ({"label": "target", "points": SQUARE, "shape_type": "line"}, "shape 1: shape_type 'line' encloses no pixels"),
        ({"label": "ignor", "points": SQUARE}, "shape 1: label 'ignor', was 'ignore' meant?"),
        ({"label": 3, "points": SQUARE}, "shape 1: `label` is a text, a number found"),
        ({"points": SQUARE}, "shape 1: `label` is a text, null found"),
        ({"label": "target"}, "shape 1: points of a polygon are pairs of numbers"),
        ("target", "shape 1: `label` is a text, null found"),
    ],
)
def test_a_shape_that_is_none_damages_the_annotation(tmp_path: Path, shape: Any, detail: str) -> None:
    write(tmp_path / "ReasonSeg" / "val", "a", shapes=[shape])

    (ref,) = read_reasonseg(tmp_path, split="val").refs

    assert ref.problem is not None
    assert ref.problem.reason == "annotation damaged"
    assert detail in ref.problem.detail


def test_other_labels_are_the_object_and_counted(tmp_path: Path) -> None:
    shapes = [{"label": label, "points": SQUARE} for label in ("target", "Ignore this", "flag", "person", "person")]
    write(tmp_path / "ReasonSeg" / "val", "a", shapes=shapes)

    assert read_reasonseg(tmp_path, split="val").notes == (
        "labels other than target, ignore, flag count as the object, as in LISA: 'person' 2",
    )


def test_the_stated_size_is_kept_where_it_is_one(tmp_path: Path) -> None:
    for name, size in (("a", (640, 480)), ("b", (None, None)), ("c", (0, 48))):
        write(tmp_path / "ReasonSeg" / "val", name, imageWidth=size[0], imageHeight=size[1])

    sizes = [ref.annotated_size for ref in read_reasonseg(tmp_path, split="val").refs]

    assert sizes == [Size(640, 480), None, None]


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
