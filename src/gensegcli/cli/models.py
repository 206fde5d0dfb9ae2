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

    from gensegcli.cli.tables import table
    from gensegcli.model_list import model_rows

    rows = model_rows()
    if json:
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    head = ("alias", "kind", "hub id", "size", "dialect", "answers in", "cached")
    keys = ("alias", "kind", "source", "parameters", "dialect", "coordinates", "cached")
    sys.stdout.write(table(head, [[row[key] for key in keys] for row in rows]))
