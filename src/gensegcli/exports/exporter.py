"""Saves predictions in the formats asked for: files per prediction as they come, files over all of them at the end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gensegcli.atomic import own_folder, replacing, saving
from gensegcli.errors import GensegError, unknown_name
from gensegcli.exports.coco import CocoInstances, discard_coco
from gensegcli.exports.files import FILE_FORMATS, PNG_END, FileFormat
from gensegcli.exports.names import is_prediction_stem, prediction_stem
from gensegcli.exports.yolo import YoloDataset, copied_name, discard_yolo, is_copied_whole, picture_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from PIL.Image import Image

    from gensegcli.records import Prediction


_COPY = "yolo/images"
"""Key of the copy of a picture that is not copied as a file is."""
_COPY_FORMAT = FileFormat(".png", picture_png, PNG_END, needs_picture=True)


class Collection(Protocol):
    """A format whose files hold more than one prediction."""

    notes: list[str]
    """What the user should know of the finished files, one sentence each."""

    def add(self, prediction: Prediction) -> None:
        """Take one prediction in."""
        ...

    def finish(self) -> None:
        """Put what was built in its place, atomically."""
        ...

    def abort(self) -> None:
        """Leave nothing behind."""
        ...


COLLECTIONS: dict[str, Callable[[Exporter], Collection]] = {
    "coco": lambda exporter: CocoInstances(exporter.folder, images_root=exporter.images_root),
    "yolo": lambda exporter: YoloDataset(exporter.folder, copy_images=exporter.copy_images),
}
"""Formats over all predictions, by name."""

_DISCARDS: tuple[Callable[[Path], None], ...] = (discard_coco, discard_yolo)

FORMATS = ("overlay", "png", "rle", "coco", "yolo", "geojson")
"""Every format, in the order in which help texts list them."""


class Exporter:
    """Writes predictions below one folder.

    `overlay`, `png`, `rle` and `geojson` are one file per prediction, `<folder>/<format>/<stem>.<ending>`, each there
    whole or not at all. `coco` and `yolo` are built in `close` from all the finished predictions: a kill leaves the old
    ones or none, and the next `close` builds them anew.
    """

    def __init__(
        self, folder: Path, formats: Sequence[str], *, images_root: Path | None = None, copy_images: bool = False
    ) -> None:
        """Prepare to write; nothing is created yet.

        Args:
            folder: below which everything is written.
            formats: names from `FORMATS`, or `all`.
            images_root: what `file_name` in `coco.json` is relative to; None: the folder that all pictures share.
            copy_images: put the pictures into `yolo/images/`.

        Raises:
            GensegError: no list of formats, one that does not exist, or pictures to be copied without `yolo`.
        """
        if isinstance(formats, str):
            raise GensegError("formats is a text, expected a list", hint=f"[{formats!r}]")
        formats = FORMATS if "all" in formats else formats
        for name in formats:
            if name not in FORMATS:
                raise unknown_name("export format", name, (*FORMATS, "all"))
        if copy_images and "yolo" not in formats:
            raise GensegError("pictures are copied for the format yolo, which was not asked for", hint="--save yolo")
        if images_root is not None and "coco" not in formats:
            raise GensegError("--images-root is for the format coco, which was not asked for", hint="--save coco")
        self.folder, self.images_root, self.copy_images = Path(folder), images_root, copy_images
        self.formats = tuple(dict.fromkeys(formats))
        self.notes: list[str] = []
        """What the user should know of the files over all predictions, once they are built."""
        self._files = {name: FILE_FORMATS[name] for name in self.formats if name in FILE_FORMATS}
        self._collections = [name for name in self.formats if name in COLLECTIONS]
        self.saved = 0
        """Predictions written by this object."""

    def paths(self, prediction: Prediction) -> dict[str, Path]:
        """Where the files of a prediction are or will be, by format; none for `coco`, and for `yolo` at most a picture."""
        stem = prediction_stem(prediction)
        paths = {name: self.folder / name / f"{stem}{form.suffix}" for name, form in self._files.items()}
        if self.copy_images and not is_copied_whole(prediction.image):
            paths[_COPY] = self.folder / _COPY / copied_name(prediction.image)
        return paths

    def is_complete(self, prediction: Prediction) -> bool:
        """Whether all files of a prediction are there, to their ends; after a resume with more formats they may not be."""
        return all(self._form(name).is_whole(path) for name, path in self.paths(prediction).items())

    def needs_picture(self, prediction: Prediction, *, renew: bool = True) -> bool:
        """Whether a file is to be written that shows the picture itself.

        Args:
            prediction: what would be saved.
            renew: files that are there already, whole, are written again.
        """
        return any(
            self._form(name).needs_picture and (renew or not self._form(name).is_whole(path))
            for name, path in self.paths(prediction).items()
        )

    def write(self, prediction: Prediction, image: Image | None) -> dict[str, Path]:
        """Save the files of one prediction.

        Args:
            prediction: what to save.
            image: its RGB picture, as `read_image` gives it; without one, formats that show it are left out.

        Returns:
            The files, by format.

        Raises:
            GensegError: disk full, no permission, …; what was saved before stays whole.
        """
        paths = {
            name: path
            for name, path in self.paths(prediction).items()
            if image is not None or not self._form(name).needs_picture
        }
        for name, path in paths.items():
            with saving(path, hint=self._hint()):
                own_folder(self.folder, *path.parent.relative_to(self.folder).parts)
            with saving(path, hint=self._hint()), replacing(path) as stream:
                stream.write(self._form(name).render(prediction, image))
        self.saved += 1
        return paths

    def close(self, predictions: Iterable[Prediction]) -> None:
        """Build the files over all predictions; one pass, bounded memory.

        Args:
            predictions: all that the files are to hold, for example read from `predictions.jsonl`. Not looked at if no
                format needs it.

        Raises:
            GensegError: as for `write`.
        """
        if not self._collections:
            return
        with saving(self.folder, hint=self._hint()):
            open_ones: list[Collection] = []
            try:
                open_ones.extend(COLLECTIONS[name](self) for name in self._collections)
                for prediction in predictions:
                    for collection in open_ones:
                        collection.add(prediction)
                for collection in open_ones:
                    collection.finish()
                    self.notes += collection.notes
            except BaseException:
                for collection in open_ones:
                    collection.abort()
                raise

    def _form(self, name: str) -> FileFormat:
        return _COPY_FORMAT if name == _COPY else self._files[name]

    def _hint(self) -> str:
        return f"{self.saved} predictions are saved whole; mend this and run the same command again to go on"


def discard_outputs(folder: Path) -> None:
    """Remove what earlier runs exported below a folder, in any format, and no file that is not recognised as such.

    Raises:
        GensegError: a file cannot be removed.
    """
    with saving(folder, hint="remove the old files yourself, or choose another folder with --out"):
        for name, form in FILE_FORMATS.items():
            if (folder / name).is_symlink():
                continue
            for path in (folder / name).glob(f"*{form.suffix}"):
                if is_prediction_stem(path.name.removesuffix(form.suffix)) and path.is_file():
                    path.unlink()
            with suppress(OSError):  # not there, or the user's files are in it
                (folder / name).rmdir()
        for discard in _DISCARDS:
            discard(folder)
