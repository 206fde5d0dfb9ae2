"""Generated scenes as a source of `genseg prep`: each reference knows its number and draws itself when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2

from gensegcli.sources.raw import Counts, RawRef, RawSet, RawTarget, Sentence
from gensegcli.sources.scenes import Reference, Scene, scene_of, thought

if TYPE_CHECKING:
    import numpy as np

    from gensegcli.records import Size

_drawn = lru_cache(maxsize=2)(scene_of)


@dataclass(frozen=True, slots=True)
class ScenePicture:
    """The picture of a scene, drawn and encoded as PNG when it is read."""

    index: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.seed}-{self.index}"

    @property
    def name(self) -> str:
        return self.key

    def read(self) -> bytes:
        scene, _ = self.draw()
        ok, png = cv2.imencode(".png", scene.image[..., ::-1])
        assert ok, "OpenCV always encodes an 8-bit picture"
        return png.tobytes()

    def draw(self) -> tuple[Scene, Reference]:
        """The scene and its expression."""
        return _drawn(self.index, seed=self.seed)


@dataclass(frozen=True, slots=True)
class SceneMask:
    """The visible part of one thing of a scene."""

    picture: ScenePicture
    thing: int

    def read(self, size: Size) -> np.ndarray:
        mask = self.picture.draw()[0].things[self.thing].mask
        assert mask.shape == (size.height, size.width), "a mask is read at the size of its own scene"
        return mask


def read_scenes(*, n: int, seed: int) -> RawSet:
    """`n` scenes of the stream `seed`, with the expressions and the truth of `scenes.samples`."""
    refs = []
    for index in range(n):
        picture = ScenePicture(index, seed)
        scene, reference = picture.draw()
        refs.append(
            RawRef(
                id=str(index),
                picture=picture,
                sentences=(Sentence(reference.expression),),
                targets=tuple(RawTarget(SceneMask(picture, thing)) for thing in reference.matches),
                provenance={
                    "dataset": "scenes",
                    "ref_id": index,
                    "kind": reference.kind,
                    "think": thought(scene, reference),
                },
            )
        )
    return RawSet(refs, Counts.of(refs, len(refs)), ())
