"""Every alias with what one wants to know before choosing, without loading or downloading anything."""

from __future__ import annotations

from typing import Any

from gensegcli.errors import GensegError
from gensegcli.models import POLICIES, SEGMENTERS, resolve_policy, resolve_segmenter


def model_rows() -> list[dict[str, Any]]:
    """One plain object per alias: policies first, both in the order of their tables.

    `source` is a hub id, or "bundled"; `cached` says whether it can be loaded without the hub.
    """
    policies = [
        {
            "alias": alias,
            "kind": "policy",
            "source": "bundled" if entry.bundled else entry.source,
            "parameters": entry.parameters,
            "dialect": entry.dialect,
            "coordinates": entry.coordinates.value,
            "segmenter": entry.segmenter,
            "cached": _cached(resolve_policy, alias),
        }
        for alias, entry in POLICIES.items()
    ]
    segmenters = [
        {
            "alias": alias,
            "kind": "segmenter",
            "source": "bundled" if entry.bundled else entry.source,
            "parameters": entry.parameters,
            "dialect": None,
            "coordinates": None,
            "segmenter": None,
            "cached": _cached(resolve_segmenter, alias),
        }
        for alias, entry in SEGMENTERS.items()
    ]
    return policies + segmenters


def _cached(resolve: Any, alias: str) -> bool:
    try:
        return resolve(alias).cached
    except GensegError:  # a bundled model that this installation lacks, or a damaged copy: it cannot be loaded
        return False
