"""The perceptual hash: the pHash that everybody means, and what it survives, on real photos."""

from __future__ import annotations

import io
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from gensegcli.audit.hashes import RADIUS, perceptual_hash
from gensegcli.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[Image.Image]:
    return [read_image(path) for path in sorted((shared_data / "mini/images/train2014").iterdir())]


def hash_of(image: Image.Image) -> int:
    found = perceptual_hash(image)
    assert found is not None
    return found


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return read_image(stream.getvalue())


def test_the_bits_are_those_of_the_lowest_frequencies() -> None:
    grey = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)  # of the hash's own size: nothing is resized

    low = dctn(grey.astype(float), norm="ortho")[:8, :8]
    expected = "".join(str(int(value > np.median(low))) for value in low.ravel())
    assert f"{hash_of(Image.fromarray(grey)):064b}" == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((840, 840), Image.Resampling.BILINEAR),
        lambda image: image.resize((840, 840), Image.Resampling.NEAREST),
        lambda image: image.resize((336, 336), Image.Resampling.BICUBIC),
        lambda image: recompressed(image, 30),
        lambda image: recompressed(image.resize((840, 840)), 30),
        lambda image: image.convert("L"),
    ],
    ids=["squashed to 840", "nearest", "squashed to 336", "JPEG 30", "840 and JPEG 30", "grey"],
)
def test_a_photo_that_was_resized_or_compressed_again_stays_within_four_bits(
    photos: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    distances = [(hash_of(photo) ^ hash_of(change(photo))).bit_count() for photo in photos]
    assert max(distances) <= 4 < RADIUS


def test_different_photos_and_mirrored_ones_are_far_apart(photos: list[Image.Image]) -> None:
    hashes = [hash_of(photo) for photo in photos]
    mirrored = [hash_of(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for photo in photos]

    assert min((one ^ other).bit_count() for one, other in combinations(hashes, 2)) >= 24
    assert min((one ^ other).bit_count() for one, other in zip(hashes, mirrored, strict=True)) >= 24


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_picture_has_no_hash(level: int) -> None:
    noise = np.random.default_rng(level).integers(-4, 5, (300, 400))
    assert perceptual_hash(Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8))) is None
    assert perceptual_hash(Image.new("RGB", (1, 1))) is None
