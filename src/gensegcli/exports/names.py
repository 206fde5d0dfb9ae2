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
_LONGEST_KEPT = 200
"""Bytes of a name that is kept as it is."""

_DIGEST = re.compile(r"(?:^|__)[0-9a-f]{12}$")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""What one file system or another does not take in a name."""
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")
"""Devices of Windows."""


def prediction_stem(prediction: Prediction) -> str:
    """Picture, expression and a digest of the id, which alone makes it unique: `street.jpg__a-red-car__3f2a90b1c4d5`."""
    digest = hashlib.sha256(prediction.id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    # With its ending: a.jpg and a.png are two pictures, and whether both are asked is not known beforehand.
    path = PurePosixPath(_path(prediction.image))
    ending = _slug(path.suffix)
    picture = f"{_slug(path.stem) or 'picture'}{f'.{ending}' if ending else ''}"
    parts = (picture, _slug(prediction.query), digest)
    return "__".join(part for part in parts if part)


def is_prediction_stem(stem: str) -> bool:
    """Whether `prediction_stem` may have made a name: it ends with the digest of an id."""
    return _DIGEST.search(stem) is not None


def picture_stem(image: str) -> str:
    r"""The name of a picture without folder and ending; two pictures may share it.

    >>> picture_stem("a/../street view.jpg"), picture_stem("https://example.org/x/cat.png?size=2"), picture_stem("..")
    ('street-view', 'cat', 'picture')
    """
    return _slug(PurePosixPath(_path(image)).stem) or "picture"


def kept_name(image: str) -> str:
    r"""The name of a picture's file as it is; only what some file system does not take is replaced by `_`.

    >>> kept_name("x/IMG_0001 (2).JPG"), kept_name("x/a:b?.jpg"), kept_name("con.jpg")
    ('IMG_0001 (2).JPG', 'a_b_.jpg', '_con.jpg')
    """
    name = PurePosixPath(image if "/" in image or "\\" not in image else image.replace("\\", "/")).name
    name = _FORBIDDEN.sub("_", name).rstrip(". ") or "picture"
    # Hidden files are passed over by those who look through a folder.
    name = f"_{name}" if _RESERVED.match(name) or name.startswith(".") else name
    path = PurePosixPath(name)
    room = _LONGEST_KEPT - len(path.suffix.encode("utf-8", "replace"))
    if len(path.stem.encode("utf-8", "replace")) <= room:
        return name
    return path.stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + path.suffix


def _path(image: str) -> str:
    return urlsplit(image).path if is_url(image) else image.replace("\\", "/")


def _slug(text: str) -> str:
    """Letters and digits of any script, everything else as single hyphens."""
    kept = re.sub(r"[^\w]+|_+", "-", unicodedata.normalize("NFC", text))
    return kept.encode("utf-8", "ignore")[:_LONGEST].decode("utf-8", "ignore").strip("-")
