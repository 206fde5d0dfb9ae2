"""File names made from names that anybody may have chosen: no separators, nothing hidden, nothing too long."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gensegcli.download import is_url

if TYPE_CHECKING:
    from gensegcli.records import Prediction

_LONGEST = 60
"""Bytes of a part: with both, the digest and a hidden file's ending, a name stays well below the usual 255."""

_DIGEST = re.compile(r"(?:^|__)[0-9a-f]{12}$")


def prediction_stem(prediction: Prediction) -> str:
    """Picture, expression and a digest of the id, which alone makes it unique: `street__a-red-car__3f2a90b1c4d5`."""
    digest = hashlib.sha256(prediction.id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    parts = (picture_stem(prediction.image), _slug(prediction.query), digest)
    return "__".join(part for part in parts if part)


def is_prediction_stem(stem: str) -> bool:
    """Whether `prediction_stem` may have made a name: it ends with the digest of an id."""
    return _DIGEST.search(stem) is not None


def picture_stem(image: str) -> str:
    r"""The name of a picture without folder and ending; two pictures may share it.

    >>> picture_stem("a/../street view.jpg"), picture_stem("https://example.org/x/cat.png?size=2"), picture_stem("..")
    ('street-view', 'cat', 'picture')
    """
    path = urlsplit(image).path if is_url(image) else image.replace("\\", "/")
    return _slug(PurePosixPath(path).stem) or "picture"


def _slug(text: str) -> str:
    """Letters and digits of any script, everything else as single hyphens."""
    kept = re.sub(r"[^\w]+|_+", "-", unicodedata.normalize("NFC", text))
    return kept.encode("utf-8", "ignore")[:_LONGEST].decode("utf-8", "ignore").strip("-")
