"""Questions and readers, one dialect per family of models; `get_dialect` is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.dialects import genseg
from gensegcli.dialects.seg_r1 import SEG_R1
from gensegcli.dialects.seg_zero import SEG_ZERO
from gensegcli.dialects.vision_reasoner import VISION_REASONER, VISURF
from gensegcli.errors import unknown_name

if TYPE_CHECKING:
    from gensegcli.dialects.base import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        genseg.GRID,
        genseg.PIXELS,
        genseg.NEGATIVES,
        genseg.MINI,
        genseg.MINI_NEGATIVES,
        SEG_ZERO,
        VISION_REASONER,
        VISURF,
        SEG_R1,
    )
}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        GensegError: there is none; the hint names the nearest and all known ones.

    >>> get_dialect("genseg").name
    'genseg'
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise unknown_name("dialect", name, DIALECTS) from None
