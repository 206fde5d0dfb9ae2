"""`genseg models`: which names `--model` and `--segmenter` take, and what is already on this machine."""

from __future__ import annotations

import sys

from gensegcli.cli import options as opt


def models(json: opt.JsonOpt = False) -> None:
    """List the models that have an alias; any other hub id or local folder works too.

    Examples:
      genseg models
      genseg models --json | jq '.[] | select(.cached)'
    """
    import orjson

    from gensegcli.cli.tables import table, terminal_width
    from gensegcli.model_list import model_rows

    rows = model_rows()
    if json:
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    for number, (kind, wanted) in enumerate((("policy", _POLICY), ("segmenter", _SEGMENTER))):
        cells = [[row[key] for key in wanted.values()] for row in rows if row["kind"] == kind]
        text = table([*wanted], cells, width=terminal_width(sys.stdout), spare=("answers in", "dialect"))
        sys.stdout.write("\n" * number + text)


_POLICY = {
    "model": "alias",
    "hub id": "source",
    "size": "parameters",
    "dialect": "dialect",
    "answers in": "coordinates",
    "cached": "cached",
}
_SEGMENTER = {"segmenter": "alias", "hub id": "source", "size": "parameters", "cached": "cached"}
"""Headings, and the keys of what stands below them."""
