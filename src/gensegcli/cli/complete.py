"""What the shell offers for an option's value; imported late, since completion runs at every press of TAB."""

from __future__ import annotations


def models(incomplete: str) -> list[str]:
    """Aliases of policies."""
    from gensegcli.models import POLICIES

    return [alias for alias in POLICIES if alias.startswith(incomplete)]


def segmenters(incomplete: str) -> list[str]:
    """Aliases of segmenters."""
    from gensegcli.models import SEGMENTERS

    return [alias for alias in SEGMENTERS if alias.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Names of presets."""
    from gensegcli.config import presets as known

    return [name for name in known() if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Export formats; of a list with commas the last one is completed."""
    from gensegcli.exports import FORMATS

    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    names = [name for name in FORMATS if name not in given] + ([] if comma else ["all"])
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def recipes(incomplete: str) -> list[str]:
    """Names of recipes."""
    from gensegcli.prep.recipe import names

    return [name for name in names() if name.startswith(incomplete)]
