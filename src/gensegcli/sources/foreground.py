"""Foreground sets (DIS5K, COD10K, CAMO, DUTS): a folder of pictures, a folder of masks, paired by base name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import SUFFIXES
from gensegcli.mask_files import read_mask
from gensegcli.sources.places import first_folder
from gensegcli.sources.raw import Counts, PictureFile, Problem, RawRef, RawSet, RawTarget, Sentence, SizeMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from gensegcli.records import Size


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask in a picture file, read as predictions are; grey levels are cut in the middle."""

    path: Path

    def read(self, size: Size) -> np.ndarray:
        mask = read_mask(self.path).mask
        if mask.shape != (size.height, size.width):
            height, width = mask.shape
            raise SizeMismatchError(
                f"{self.path.name}: mask of {width}x{height}, picture of {size.width}x{size.height} pixels"
            )
        return mask


def read_foreground(
    root: Path,
    *,
    dataset: str,
    split: str,
    folders: Mapping[str, Sequence[Sequence[str]]],
    query: str,
    leave_out: Sequence[str] = (),
    hint: str = "",
) -> RawSet:
    """One split of a foreground set, by file name.

    Args:
        root: the folder above the set's own.
        dataset: name of the set.
        split: a key of `folders`.
        folders: split → pairs (folder of pictures, folder of masks) below the root; the first pair that is there counts.
        query: what is asked of every picture: these sets have no expressions.
        leave_out: pictures whose names contain one of these are not part of the set.
        hint: where to get the set.

    Raises:
        GensegError: no such split; neither of the folder pairs is there, or the folder holds no pictures.
    """
    if split not in folders:
        raise GensegError(f"{dataset} has no split {split!r}", hint=f"known: {', '.join(folders)}")
    pairs = {pair[0]: pair[1] for pair in folders[split]}
    pictures = first_folder(root, pairs, what=f"{dataset} {split}", hint=hint)
    masks = first_folder(root, [pairs[pictures.relative_to(root).as_posix()]], what=f"masks of {dataset}", hint=hint)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(masks.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            by_name[path.stem].append(path)
    refs: list[RawRef] = []
    seen: set[str] = set()
    for path in sorted(pictures.iterdir()):
        if path.suffix.lower() not in SUFFIXES or any(part in path.name for part in leave_out):
            continue
        found = by_name.get(path.stem, [])
        mask = found[0] if len(found) == 1 else None
        problem = _problem(path, found, masks)
        if path.stem in seen:
            problem = Problem("duplicate", f"{path.name}: another picture is called {path.stem} too")
        seen.add(path.stem)
        refs.append(
            RawRef(
                id=path.stem,
                picture=PictureFile(path),
                sentences=(Sentence(query),),
                targets=(RawTarget(MaskFile(mask)),) if mask else (),
                provenance={"dataset": dataset, "file_name": path.name},
                problem=problem,
            )
        )
    if not refs:
        raise GensegError(f"{pictures}: holds no pictures", hint=hint, code=ExitCode.NOT_FOUND)
    counts = Counts.of(refs, len(refs))
    used = tuple(target.mask.path for ref in refs for target in ref.targets if isinstance(target.mask, MaskFile))
    return RawSet(refs, counts, used, {split: counts})


def _problem(picture: Path, masks: Sequence[Path], folder: Path) -> Problem | None:
    if not masks:
        return Problem("mask missing", f"no mask for {picture.name} in {folder}")
    if len(masks) > 1:
        return Problem(
            "several masks", f"{' and '.join(mask.name for mask in masks)} are both named like {picture.name}"
        )
    return None
