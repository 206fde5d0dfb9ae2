"""From names to findings: how pictures are compared, what cannot be read, what is written."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from gensegcli.audit.overlap import Method
from gensegcli.audit.pictures import look_at
from gensegcli.audit.run import CLEAN, OVERLAP, PAIRS, UNVERIFIED, open_audit, write_lists
from gensegcli.audit.sets import Picture, Places
from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.raw import PictureFile
from tests.audit.conftest import draw_picture

if TYPE_CHECKING:
    from pathlib import Path


def photo_folder(folder: Path, numbers: range) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(draw_picture(number)).save(folder / f"{number}.png")
    return folder


# ---------------------------------------------------------------- looking


def test_pictures_come_in_their_order_whatever_the_workers_do(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "a", range(40))
    pictures = [Picture(str(n), None, PictureFile(folder / f"{n}.png")) for n in range(40)]

    alone, together = (list(look_at(pictures, workers=workers)) for workers in (1, 4))

    assert alone == together
    assert len({look.digest for look in alone}) == len({look.hash for look in alone}) == 40


def test_a_reader_that_leaves_stops_the_looking(tmp_path: Path) -> None:
    read = []

    class Counted(PictureFile):
        def read(self) -> bytes:
            read.append(self.path.name)
            return super().read()

    folder = photo_folder(tmp_path / "a", range(20))
    looks = look_at((Picture(str(n), None, Counted(folder / f"{n}.png")) for n in range(20)), workers=1)
    next(looks)
    looks.close()
    assert len(read) < 5


def test_pictures_that_cannot_be_read_are_told_and_the_rest_is_compared(tmp_path: Path) -> None:
    ours = photo_folder(tmp_path / "ours", range(4))
    theirs = photo_folder(tmp_path / "theirs", range(2, 6))
    (ours / "0.png").write_bytes(b"not a picture")
    (ours / "1.png").write_bytes((ours / "1.png").read_bytes()[:200])

    finding = open_audit([str(theirs)], str(ours), Places(tmp_path)).run()

    assert [match.picture for match in finding.overlap.matches] == ["2.png", "3.png"]
    assert len(finding.unreadable) == 2
    assert finding.unreadable[0].problem.startswith("0.png: not a picture that can be read")
    assert finding.unreadable[1].problem.startswith("1.png: the picture is ")
    assert finding.overlap.pictures == 4


def test_without_decoding_a_damaged_picture_is_as_good_as_any(tmp_path: Path) -> None:
    ours, theirs = (photo_folder(tmp_path / name, range(1)) for name in ("ours", "theirs"))
    for folder in (ours, theirs):
        (folder / "0.png").write_bytes(b"the same damage")
    finding = open_audit([str(theirs)], str(ours), Places(tmp_path), ["digest"]).run()
    assert (finding.overlap.shared, finding.unreadable) == (1, ())


def test_a_picture_that_is_missing_from_its_folder(mini: Places, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for path in (mini.root / "images/train2014").iterdir():
        if "785" not in path.name:
            (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    places = Places(mini.root, images=tmp_path / "photos")

    finding = open_audit(["grefcoco:train"], "refcocog:val", places).run()

    assert {picture.problem for picture in finding.unreadable} == {
        f"000000000785.jpg: cannot be read (not in {tmp_path / 'photos'})"
    }
    assert finding.overlap.shared_by == {Method.ID: 3, Method.DIGEST: 2, Method.HASH: 2}


# ---------------------------------------------------------------- comparing


def test_real_photos_are_found_after_what_training_sets_do_to_them(mini: Places, tmp_path: Path) -> None:
    """Squashed to 840×840, to 336×336, compressed to a tenth, made grey: nothing but the hash can tell."""
    changes = [
        lambda image: image.resize((840, 840)),
        lambda image: image.resize((336, 336)),
        lambda image: image,
        lambda image: image.convert("L"),
    ]
    names = []
    for number, path in enumerate(sorted((mini.root / "images/train2014").iterdir())[:5]):
        stream = io.BytesIO()
        changed = changes[number % 4](Image.open(path)) if number < 4 else Image.fromarray(draw_picture(1))
        changed.save(stream, "JPEG", quality=40)
        (tmp_path / f"{number}-{path.stem[-3:]}.jpg").write_bytes(stream.getvalue())
        names.append(path.stem)

    finding = open_audit([str(tmp_path)], "refcocog:val", mini).run()

    assert finding.overlap.methods == tuple(Method)
    found = {match.picture: match for match in finding.overlap.matches}
    assert set(found) == {f"{name[-12:]}.jpg" for name in names[:4]} & {
        "000000000785.jpg", "000000040083.jpg", "000000196141.jpg", "000000197388.jpg",
    }  # fmt: skip
    assert all(match.by == (Method.HASH,) and match.distance <= 4 for match in found.values())
    assert found["000000000785.jpg"].trained == "0-785.jpg"


def test_a_plain_picture_is_found_by_its_bytes_alone(tmp_path: Path) -> None:
    for name, levels in (("ours", (10, 20)), ("theirs", (10, 21))):
        (tmp_path / name).mkdir()
        for level in levels:
            Image.new("RGB", (40, 30), (level, level, level)).save(tmp_path / name / f"{level}.png")

    overlap = open_audit([str(tmp_path / "theirs")], str(tmp_path / "ours"), Places(tmp_path)).run().overlap

    assert [match.picture for match in overlap.matches] == ["10.png"]
    assert overlap.plain == 4


@pytest.mark.parametrize(
    ("images", "methods", "expected", "reads"),
    [
        (False, None, (Method.ID,), 0),
        (True, None, tuple(Method), 7),
        (True, ["id"], (Method.ID,), 0),
        (False, ["hash", "id"], (Method.ID, Method.HASH), 7),
    ],
)
def test_what_is_compared(
    mini: Places, images: bool, methods: list[str] | None, expected: tuple[Method, ...], reads: int
) -> None:
    places = Places(mini.root, images=mini.root / "images/train2014" if images else None)
    audit = open_audit(["grefcoco:train"], "refcocog:val", places, methods)
    assert (audit.methods, audit.pictures) == (expected, reads)
    assert audit.run().overlap.shared == 3


def test_pictures_without_a_number_are_told_where_content_is_out_of_reach(mini: Places, tmp_path: Path) -> None:
    for name in ("refs(umd).p", "instances.json"):
        (tmp_path / "refcocog").mkdir(exist_ok=True)
        (tmp_path / "refcocog" / name).write_bytes((mini.root / "refcocog" / name).read_bytes())
    (tmp_path / "seen.txt").write_text("785\nholiday.jpg\n")

    audit = open_audit([str(tmp_path / "seen.txt")], "refcocog:val", Places(tmp_path))

    assert audit.methods == (Method.ID,)
    assert audit.notes[0].startswith(f"not compared, having no COCO number: 1 of {tmp_path / 'seen.txt'}; by content")
    assert audit.run().overlap.shared == 1
    (tmp_path / "seen.txt").write_text("holiday.jpg\n")
    with pytest.raises(GensegError, match="can only be compared by content") as caught:
        open_audit([str(tmp_path / "seen.txt")], "refcocog:val", Places(tmp_path))
    assert "--images-root" in caught.value.hint
    assert caught.value.code == ExitCode.NOT_FOUND
    with pytest.raises(GensegError, match="not at hand, and needed for digest, hash"):
        open_audit(["refcocog:train"], "refcocog:val", Places(tmp_path), ["hash", "digest"])
    with pytest.raises(GensegError, match="have no COCO number"):
        open_audit([str(tmp_path / "seen.txt")], "refcocog:val", Places(tmp_path), ["id"])


@pytest.mark.parametrize(
    ("training", "evaluation", "message"),
    [
        ("grefcoco:train", "grefcoco:train", "is trained on and evaluated"),
        ("grefcoco", "grefcoco:train", "are the same set"),
    ],
)
def test_a_set_on_both_sides(mini: Places, training: str, evaluation: str, message: str) -> None:
    with pytest.raises(GensegError, match=message):
        open_audit([training], evaluation, mini)


def test_an_unknown_way(mini: Places) -> None:
    with pytest.raises(GensegError, match="unknown way to compare pictures 'hahs'") as caught:
        open_audit(["grefcoco:train"], "refcocog:val", mini, ["id", "hahs"])
    assert "did you mean hash?" in caught.value.hint


# ---------------------------------------------------------------- writing


def test_lists(mini: Places, tmp_path: Path) -> None:
    overlap = open_audit(["grefcoco:train"], "refcocog:val", mini).run().overlap

    write_lists(tmp_path / "a" / "b", overlap)

    clean, shared = ((tmp_path / "a/b" / name).read_text().splitlines() for name in (CLEAN, OVERLAP))
    assert (tuple(clean), tuple(shared)) == (overlap.clean, overlap.overlap)
    pairs = [json.loads(line) for line in (tmp_path / "a/b" / PAIRS).read_text().splitlines()]
    assert pairs[0] == {
        "picture": "000000000785.jpg",
        "trained": "000000000785.jpg",
        "trained_set": "grefcoco:train",
        "by": ["id"],
        "distance": None,
    }
    assert len(pairs) == 3


def test_a_folder_that_cannot_be_written(mini: Places, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    overlap = open_audit(["grefcoco:train"], "refcocog:val", mini).run().overlap
    with pytest.raises(GensegError, match="cannot be saved") as caught:
        write_lists(tmp_path / "file", overlap)
    assert "--write-ids" in caught.value.hint


# ---------------------------------------------------------------- a clean list only where all was compared


def _lists(tmp_path: Path, seen: str, asked: str = "image,id\n785,q1\n786,q2\n") -> tuple[Path, Path]:
    (tmp_path / "seen.csv").write_text(seen)
    (tmp_path / "asked.csv").write_text(asked)
    return tmp_path / "seen.csv", tmp_path / "asked.csv"


@pytest.mark.parametrize(
    ("seen", "uncompared"),
    [
        ("image\n785.0\n1\n", 0),
        ("image\n 785 \n1\n", 0),
        ("image\nholiday.jpg\n785\n", 1),
        ("image\n202311280657.jpg\n785\n", 1),
        ("image,query\n785,a\n786,b,c,d\n", 1),
    ],
)
def test_training_pictures_that_were_not_compared_leave_nothing_clean(
    tmp_path: Path, seen: str, uncompared: int
) -> None:
    trained, asked = _lists(tmp_path, seen)
    overlap = open_audit([str(trained)], str(asked), Places(tmp_path)).run().overlap
    assert (overlap.overlap, overlap.clean) == (("q1",), ("q2",))
    assert overlap.uncompared == uncompared
    out = tmp_path / "out"
    out.mkdir()
    for name in (CLEAN, UNVERIFIED):
        (out / name).write_text("of an earlier audit\n")
    write_lists(out, overlap)
    there, gone = (UNVERIFIED, CLEAN) if uncompared else (CLEAN, UNVERIFIED)
    assert (out / there).read_text() == "q2\n"
    assert not (out / gone).exists()


def test_pictures_that_hold_nothing_in_common_are_not_compared(tmp_path: Path) -> None:
    """Numbers on one side and photos on the other: that none is found says nothing."""
    photo_folder(tmp_path / "photos", range(2))
    (tmp_path / "seen.csv").write_text("image\n785\n")
    (tmp_path / "bytes").mkdir()
    Image.fromarray(draw_picture(7)).save(tmp_path / "bytes" / "COCO_val2014_000000000001.png")
    for methods, uncompared in ((["id", "digest"], 1), (["digest"], 1)):
        (tmp_path / "785").write_bytes(b"no picture")
        trained = open_audit([str(tmp_path / "seen.csv")], str(tmp_path / "photos"), Places(tmp_path), methods)
        (tmp_path / "785").unlink()
        assert trained.run().overlap.uncompared == uncompared
    same = open_audit([str(tmp_path / "bytes")], str(tmp_path / "photos"), Places(tmp_path))
    assert same.run().overlap.uncompared == 0


def test_a_damaged_training_picture_without_a_number_is_not_compared(tmp_path: Path) -> None:
    ours, theirs = photo_folder(tmp_path / "ours", range(2)), photo_folder(tmp_path / "theirs", range(5, 7))
    damaged = theirs / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert open_audit([str(theirs)], str(ours), Places(tmp_path)).run().overlap.uncompared == 1
    assert open_audit([str(ours)], str(theirs), Places(tmp_path)).run().overlap.uncompared == 0


def test_nfc_and_nfd_expressions_are_one(tmp_path: Path) -> None:
    trained, asked = _lists(
        tmp_path, "image,query\n785,cafe\u0301 sign\u3002\n", "image,query,id\n785,caf\u00e9 sign,q1\n"
    )
    overlap = open_audit([str(trained)], str(asked), Places(tmp_path)).run().overlap
    assert (overlap.asked.same_picture, overlap.asked.expressions) == (1, 1)
