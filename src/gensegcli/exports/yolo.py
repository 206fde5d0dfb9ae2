"""YOLO segmentation data set: a text file per picture, and on demand the pictures, put in place file by file."""

from __future__ import annotations

import csv
import filecmp
import hashlib
import io
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.atomic import discard, is_a_link, own_folder, replacing
from gensegcli.errors import GensegError
from gensegcli.exports.names import kept_name, picture_stem
from gensegcli.exports.places import local_path, picture_key
from gensegcli.geometry import rle
from gensegcli.geometry.polygons import joined, polygons
from gensegcli.harmless import csv_row
from gensegcli.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL.Image import Image

    from gensegcli.records import Prediction, Size

_HEAD = "# Labels by genseg."
_READ_BY_TRAINERS = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Endings that every trainer takes; other pictures are copied as PNG."""


class _Files(NamedTuple):
    """Names of the files of one picture, below `labels/` and `images/`."""

    label: str
    image: str


@dataclass
class _Picture:
    """A picture that was asked about."""

    name: str
    """As in the predictions."""
    number: int
    whole: bool = True
    """Everything that was asked is answered with masks, or with "not there"."""


class YoloDataset:
    """`yolo/`: `labels/<picture>.txt`, `data.yaml` (a class per expression), `pictures.csv`, on demand `images/`.

    A line is `class x1 y1 x2 y2 …`: one outline per instance, coordinates divided by width and height. The format knows
    neither holes nor separate parts: they are joined to one outline by bridges of no width, as its own converters do,
    which the even-odd rule of its rasterisers fills correctly. Scores have no place in it. A picture in which nothing
    was found gets an empty file, which trainers take as background. So a picture with an object that has no mask, or with
    an answer that could not be read, has no file at all: it is left out and counted.

    Pictures are copied, never linked: some trainers write mended JPEGs in place.

    The folder is shared with the user: only files that genseg wrote are ever replaced, moved or removed in it.
    """

    def __init__(self, folder: Path, *, copy_images: bool = False) -> None:
        self._final = folder / "yolo"
        self._partial = folder / ".yolo.partial"
        self._copy = copy_images
        self._clear()
        own_folder(folder, ".yolo.partial", "labels")
        self._pictures: dict[str, _Picture] = {}
        self._classes: dict[str, int] = {}
        self.notes: list[str] = []

    def add(self, prediction: Prediction) -> None:
        number = self._classes.setdefault(prediction.query, len(self._classes))
        picture = self._pictures.setdefault(
            picture_key(prediction.image), _Picture(prediction.image, len(self._pictures))
        )
        lines = [yolo_line(rle.decode(found.mask), number, prediction.size) for found in prediction.instances]
        picture.whole &= prediction.refusal is None and all(lines)
        # Appended at once: memory stays bounded, and the folder is not in its place before it is whole.
        with self._built(picture).open("a", encoding="ascii") as stream:
            stream.write("".join(f"{line}\n" for line in lines if line))

    def finish(self) -> None:
        """Put the files in place, one by one; what else stands in the folder is not touched.

        `data.yaml` goes first and comes back last: a kill in between leaves nothing a trainer would start from.
        `pictures.csv` names old and new files meanwhile, so that the next attempt knows which are genseg's.
        """
        old = written_files(self._final)
        new = self._named([picture for picture in self._pictures.values() if picture.whole], old)
        self._tell(new)
        if not self._copy:
            new = [(files._replace(image=""), picture) for files, picture in new]
        own_folder(self._final.parent, "yolo", "labels")
        if self._copy:
            own_folder(self._final, "images")
        (self._final / "data.yaml").unlink(missing_ok=True)
        self._write_table([*((files, picture.name) for files, picture in new), *old.items()])
        if self._copy:
            new = self._with_pictures(new)
        for files, picture in new:
            self._built(picture).replace(self._final / "labels" / files.label)
        kept = {(folder, name.casefold()) for files, _ in new for folder, name in _places(files)}
        for files in old:
            for folder, name in _places(files):
                if (folder, name.casefold()) not in kept:
                    (self._final / folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or there are pictures in it
            (self._final / "images").rmdir()
        self._write_table((files, picture.name) for files, picture in new)
        names = "".join(f"  {number}: {yaml_text(name)}\n" for name, number in self._classes.items())
        about = "" if self._copy else " Pictures belong into images/, under the names in pictures.csv."
        with replacing(self._final / "data.yaml") as stream:
            stream.write(f"{_HEAD}{about}\ntrain: images\nval: images\nnames:\n{names}".encode())
        self._clear()

    def abort(self) -> None:
        self._clear()

    # ------------------------------------------------------------ names

    def _named(self, pictures: Iterable[_Picture], old: Iterable[_Files]) -> list[tuple[_Files, _Picture]]:
        """Names for the files of every picture: its own, with a digest behind it where another one has it."""
        mine = {files.image.casefold() for files in old}
        taken: set[str] = set()
        named = []
        for picture in pictures:
            image = Path(copied_name(picture.name) if self._copy else _own_name(picture.name))
            stem = image.stem
            foreign = self._copy and image.name.casefold() not in mine and self._is_foreign(image.name, picture)
            # Compared without case: some file systems hold no two names that differ in nothing else.
            if foreign or stem.casefold() in taken:
                stem = f"{stem}-{_digest(picture.name)}"
            taken.add(stem.casefold())
            named.append((_Files(f"{stem}.txt", f"{stem}{image.suffix}"), picture))
        return named

    def _is_foreign(self, name: str, picture: _Picture) -> bool:
        """Whether another picture stands under a name; the same one may, from the user or from a run that was killed."""
        target = self._final / "images" / name
        source = local_path(picture.name)
        if source is None or not target.is_file() or not is_copied_whole(picture.name):
            return False
        try:
            return not filecmp.cmp(source, target, shallow=False)
        except OSError:  # the picture is gone, and nothing will be copied
            return False

    def _tell(self, named: list[tuple[_Files, _Picture]]) -> None:
        left_out = sum(not picture.whole for picture in self._pictures.values())
        if left_out:
            self.notes.append(
                f"yolo: {_pictures(left_out)} left out, with an empty mask or an unreadable answer: "
                "an empty label file would say that nothing is there"
            )
        renamed = sum(
            files.image != (os.path.basename(local_path(picture.name) or "") or files.image)  # noqa: PTH119 (a text)
            for files, picture in named
        )
        if renamed:
            self.notes.append(f"yolo: {_pictures(renamed)} renamed, see pictures.csv")

    # ------------------------------------------------------------ files

    def _built(self, picture: _Picture) -> Path:
        return self._partial / "labels" / f"{picture.number}.txt"

    def _with_pictures(self, named: list[tuple[_Files, _Picture]]) -> list[tuple[_Files, _Picture]]:
        """Copy the pictures; those that are gone by now are left out."""
        whole = []
        for files, picture in named:
            target = self._final / "images" / files.image
            source = local_path(picture.name)
            try:
                if source is not None and is_copied_whole(picture.name):
                    _copy(Path(source), target)
                elif source is not None and not target.is_file():
                    _write_png(read_image(source), target)
                elif not target.is_file():  # from an address, and written when it was answered
                    continue
            except (FileNotFoundError, GensegError):
                continue
            whole.append((files, picture))
        if len(whole) < len(named):
            gone = len(named) - len(whole)
            self.notes.append(f"yolo: {_pictures(gone)} left out, not there any more to be copied")
        return whole

    def _clear(self) -> None:
        if self._partial.is_symlink():
            raise is_a_link(self._partial)
        discard(self._partial / "labels")
        with suppress(OSError):  # not there, or not empty: the rest is not genseg's
            self._partial.rmdir()

    def _write_table(self, files: Iterable[tuple[_Files, str]]) -> None:
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(("label", "image", "file"))
        table.writerows(
            csv_row((f"labels/{own.label}", image, f"images/{own.image}" if own.image else "")) for own, image in files
        )
        with replacing(self._final / "pictures.csv") as stream:
            stream.write(text.getvalue().encode())


def picture_png(_prediction: Prediction, image: Image | None) -> bytes:
    """A picture that is no file that trainers read, as one that is."""
    if image is None:
        raise ValueError("a copy needs the picture")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def copied_name(image: str) -> str:
    """The name of a picture's copy: its own, or that of a PNG for pictures of no file or of an uncommon format.

    >>> copied_name("x/IMG 1.JPG"), copied_name("x/a.heic"), copied_name("https://h/cat.png?sha256=586438516752")
    ('IMG 1.JPG', 'a-a39a179e38b3.png', 'cat-2998c9f9954d.png')
    """
    return kept_name(image) if is_copied_whole(image) else f"{picture_stem(image)}-{_digest(image)}.png"


def is_copied_whole(image: str) -> bool:
    """Whether a picture is a file in a format that trainers read."""
    return local_path(image) is not None and Path(image).suffix.lower() in _READ_BY_TRAINERS


def written_files(folder: Path) -> dict[_Files, str]:
    """The files that genseg wrote into a `yolo/` folder, with their pictures, as its table lists them.

    A table of another form lists none: what may be the user's is left alone.
    """
    try:
        with (folder / "pictures.csv").open(encoding="utf-8", newline="") as stream:
            rows = [(row["label"] or "", row.get("file") or "", row["image"] or "") for row in csv.DictReader(stream)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}
    found = {}
    for label, file, image in rows:
        # A name with a separator was not written by genseg and might lead out of the folder.
        own = _Files(_plain(label, "labels/"), _plain(file, "images/"))
        if own.label.endswith(".txt"):
            found[own] = image
    return found


def discard_yolo(folder: Path) -> None:
    """Remove the files that earlier runs put into `<folder>/yolo`, and nothing else."""
    final = folder / "yolo"
    if any(place.is_symlink() for place in (final, final / "labels", final / "images")):
        return
    for files in written_files(final):
        for place, name in _places(files):
            (final / place / name).unlink(missing_ok=True)
    yaml = final / "data.yaml"
    if yaml.is_file() and yaml.read_bytes().startswith(_HEAD.encode()):
        yaml.unlink()
        (final / "pictures.csv").unlink(missing_ok=True)
    for emptied in (final / "labels", final / "images", final):
        with suppress(OSError):  # not there, or the user's files are in it
            emptied.rmdir()


def yolo_line(mask: np.ndarray, number: int, size: Size) -> str:
    """One line of a label file for a bool mask (h w); empty for an empty mask."""
    parts = polygons(mask)
    if not parts:
        return ""
    outline = joined(parts) / np.array(size, dtype=np.float64)
    # Seven digits: below a hundredth of a pixel for every picture that can be read.
    return f"{number} " + " ".join(f"{value:.7g}" for value in outline.reshape(-1))


def yaml_text(text: str) -> str:
    r"""A text between double quotes as YAML has them: what it does not print is written as its number.

    >>> print(yaml_text('the "blue" one'), yaml_text("a\uffff"))
    "the \"blue\" one" "a\uFFFF"
    """
    return '"' + "".join(map(_yaml_character, text)) + '"'


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _places(files: _Files) -> list[tuple[str, str]]:
    return [(folder, name) for folder, name in zip(("labels", "images"), files, strict=True) if name]


def _plain(text: str, folder: str) -> str:
    name = text.removeprefix(folder) if text.startswith(folder) else ""
    return "" if re.search(r"[/\\\0]", name) or name in {".", ".."} else name


def _digest(image: str) -> str:
    return hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _own_name(image: str) -> str:
    """What a picture's file is called, as far as every file system takes it; a picture of no file is called as its copy."""
    return copied_name(image) if local_path(image) is None else kept_name(image)


def _copy(source: Path, target: Path) -> None:
    """The picture's file as it is; a copy of the same size and time is taken for the picture."""
    stamp = source.stat()
    if target.is_file() and (target.stat().st_size, target.stat().st_mtime_ns) == (stamp.st_size, stamp.st_mtime_ns):
        return
    with source.open("rb") as content, replacing(target) as stream:
        shutil.copyfileobj(content, stream)
    os.utime(target, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def _write_png(picture: Image, target: Path) -> None:
    with replacing(target) as stream:
        picture.save(stream, "PNG")


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"
