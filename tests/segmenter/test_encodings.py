"""The cache of encodings: what is computed, what is kept, what is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from gensegcli.segmenter.encodings import EncodingCache, picture_digest


class Encoder:
    """Counts what it is given; an 'encoding' is the sum of the picture."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: list[np.ndarray]) -> list[int]:
        self.calls.append(len(images))
        return [int(image.sum()) for image in images]


def plain(value: int) -> np.ndarray:
    return np.full((2, 3, 3), value, np.uint8)


def test_each_different_picture_once_in_one_call() -> None:
    cache, encode = EncodingCache[int](8), Encoder()
    assert cache.encode_all([plain(1), plain(2), plain(1)], encode) == [18, 36, 18]
    assert cache.encode_all([plain(2), plain(1)], encode) == [36, 18]
    assert encode.calls == [2]


def test_forgets_the_least_recently_used() -> None:
    cache, encode = EncodingCache[int](2), Encoder()
    for value in (1, 2, 1, 3):  # 1 was used after 2, so 3 drives out 2
        cache.encode_all([plain(value)], encode)
    assert len(cache) == 2
    cache.encode_all([plain(1)], encode)
    assert encode.calls == [1, 1, 1]
    cache.encode_all([plain(2)], encode)
    assert encode.calls == [1, 1, 1, 1]


def test_more_pictures_than_it_holds() -> None:
    cache, encode = EncodingCache[int](2), Encoder()
    cache.encode_all([plain(0)], encode)
    assert cache.encode_all([plain(value) for value in range(5)], encode) == [18 * value for value in range(5)]
    assert (len(cache), encode.calls) == (2, [1, 4])


def test_capacity_zero_keeps_nothing() -> None:
    cache, encode = EncodingCache[int](0), Encoder()
    cache.encode_all([plain(1)], encode)
    cache.encode_all([plain(1)], encode)
    assert (len(cache), encode.calls) == (0, [1, 1])
    with pytest.raises(ValueError, match="-1 encodings"):
        EncodingCache[int](-1)


def test_a_picture_changed_in_place_is_another_picture() -> None:
    cache, encode = EncodingCache[int](8), Encoder()
    image = plain(1)
    cache.encode_all([image], encode)
    image[0, 0, 0] = 9
    assert cache.encode_all([image], encode) == [26]


def test_digest_is_of_content_and_shape() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert picture_digest(image) == picture_digest(image.copy())
    assert picture_digest(image) == picture_digest(np.asfortranarray(image))
    assert picture_digest(image) != picture_digest(image.reshape(4, 2, 3))
    assert picture_digest(image[:, ::-1]) == picture_digest(image[:, ::-1].copy())
