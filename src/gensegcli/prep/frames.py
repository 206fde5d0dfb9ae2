"""Where annotations of a picture with an EXIF turn lie: on its pixels as they are stored, or as viewers show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.errors import GensegError
from gensegcli.geometry.masks import Patch, cut
from gensegcli.geometry.rle import decode_patch
from gensegcli.geometry.turns import UPRIGHT, Turn
from gensegcli.records import Size, Target
from gensegcli.sources.coco import CocoMask
from gensegcli.sources.raw import Problem, SizeMismatchError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from gensegcli.sources.raw import AnnotationFrame, MaskSource, RawRef, RawTarget

_OTHER: dict[AnnotationFrame, AnnotationFrame] = {"stored": "upright", "upright": "stored"}


class Unusable(Exception):  # noqa: N818 -- carries a reason to the one place that counts it
    """A sample that cannot be built."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.problem = Problem(reason, detail)


class Frames:
    """The annotations of one picture, brought into the frame in which everything else sees it: upright.

    Args:
        turn: from the stored pixels to the upright picture.
        size: of the upright picture.
        wanted: what the user says; auto: the stated size decides, else the custom of the data's form.
    """

    def __init__(self, turn: Turn, size: Size, wanted: Literal["auto", "stored", "upright"]) -> None:
        self._turn = turn
        self._wanted = wanted
        self._sizes: dict[AnnotationFrame, Size] = {"stored": turn.size(size), "upright": size}
        self._seen: set[str] = set()

    def seen(self) -> tuple[str, ...]:
        """Of a picture with a turn: the frames from which something was read, or `without objects`; else nothing."""
        if self._turn == UPRIGHT:
            return ()
        return tuple(sorted(self._seen)) or ("without objects",)

    def possible(self, ref: RawRef) -> tuple[AnnotationFrame, ...]:
        """The frames in which the annotations of a reference can be, the likeliest first.

        Raises:
            Unusable: they were made for a picture of another size.
        """
        frames: tuple[AnnotationFrame, ...]
        if self._turn == UPRIGHT:
            frames = ("upright",)
        elif self._wanted != "auto":
            frames = (self._wanted,)
        else:
            frames = (ref.frame, _OTHER[ref.frame])
        if ref.annotated_size is None:
            return frames
        fitting = [frame for frame in frames if self._sizes[frame] == ref.annotated_size]
        if not fitting:
            width, height = ref.annotated_size
            sizes = dict.fromkeys(self._sizes[frame] for frame in frames)
            found = " or ".join(f"{size.width}x{size.height}" for size in sizes)
            hint = self._hint(frames, ref.annotated_size.__eq__)
            raise Unusable("size mismatch", f"annotated at {width}x{height}, the picture has {found}{hint}")
        return tuple(sorted(frames, key=lambda frame: frame not in fitting))

    def mask(self, mask: MaskSource, frames: Sequence[AnnotationFrame]) -> Patch | None:
        """A mask of the upright picture; None for an empty one.

        Args:
            mask: where it is. If it has a size of its own, it is read in the first frame that it fits.
            frames: what `possible` gave.

        Raises:
            Unusable: it is damaged, missing or of another size.
        """
        mismatch = ""
        for frame in frames:
            size = self._sizes[frame]
            try:
                patch = decode_patch(mask.rle(size)) if isinstance(mask, CocoMask) else cut(mask.read(size))
            except UnreachableError:
                raise
            except SizeMismatchError as error:
                mismatch = mismatch or error.message
                continue
            except GensegError as error:
                raise Unusable("annotation damaged", error.message) from None
            except OSError as error:
                raise Unusable("mask missing", str(error)) from None
            self._seen.add(frame)
            return self._turn.patch(patch, size) if patch and frame == "stored" else patch
        raise Unusable("size mismatch", mismatch + self._hint(frames, lambda size: _fits(mask, size)))

    def boxed(self, target: RawTarget, frames: Sequence[AnnotationFrame]) -> Target:
        """An object that the data set describes by box and points.

        Raises:
            Unusable: it has none.
        """
        if target.box is None:
            raise Unusable("annotation damaged", "some objects have masks, and one has neither mask nor box")
        self._seen.add(frames[0])
        turn = self._turn if frames[0] == "stored" else UPRIGHT
        points, negatives = (tuple(map(turn.point, some)) for some in (target.points, target.negatives))
        return Target(turn.box(target.box), points, None, negatives, target.ann_id, target.category_id)

    def _hint(self, frames: Sequence[AnnotationFrame], fits: Callable[[Size], bool]) -> str:
        """What to say about EXIF of an annotation whose size does not fit."""
        upright = self._sizes["upright"]
        if self._turn == UPRIGHT:
            swapped = fits(Size(upright.height, upright.width))
            return "; with its sides swapped it fits: was an EXIF turn lost?" if swapped else ""
        other = _OTHER[frames[0]]
        if len(frames) == 1 and fits(self._sizes[other]):
            return f"; EXIF turns the picture, and --annotations-frame {other} fits"
        return ""


def _fits(mask: MaskSource, size: Size) -> bool:
    try:
        mask.read(size)
    except (GensegError, OSError):
        return False
    return True
