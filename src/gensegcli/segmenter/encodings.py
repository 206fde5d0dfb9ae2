"""A bounded store of encoded pictures, found again by their content."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Encoding = TypeVar("Encoding")


def picture_digest(image: np.ndarray) -> bytes:
    """Digest of a picture's shape and pixels, about a millisecond per megapixel.

    Content rather than `id()`: the same picture decoded twice is found again, and an array that was changed in place,
    or whose address was given to another one, is not mistaken for the old one.
    """
    digest = blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


class EncodingCache(Generic[Encoding]):
    """The `capacity` most recently used encodings.

    All encodings of one model are of one size (17 MB for SAM 2 large in fp32) whatever the picture's, so that a bound
    on their number is a bound on memory. Capacity 0 keeps none.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise ValueError(f"a cache cannot hold {capacity} encodings")
        self.capacity = capacity
        self._held: OrderedDict[bytes, Encoding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def encode_all(
        self, images: Sequence[np.ndarray], encode: Callable[[list[np.ndarray]], list[Encoding]]
    ) -> list[Encoding]:
        """An encoding per picture; `encode` is called once, with those not held, each different picture once."""
        keys = [picture_digest(image) for image in images]
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in self._held}
        fresh = dict(zip(missing, encode(list(missing.values())), strict=True)) if missing else {}
        # Read everything before anything is evicted: one call may ask for more pictures than the cache holds.
        encodings = [fresh[key] if key in fresh else self._held[key] for key in keys]
        for key, encoding in zip(keys, encodings, strict=True):
            self._held[key] = encoding
            self._held.move_to_end(key)
        while len(self._held) > self.capacity:
            self._held.popitem(last=False)
        return encodings

    def clear(self) -> None:
        """Drop all encodings, which frees their memory."""
        self._held.clear()
