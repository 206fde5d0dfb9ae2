"""Predictions as text: one line each for people, or JSONL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gensegcli.predictions import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.records import Prediction

_WIDTHS = (28, 32, 22, 30, 6, 8)
_HEAD = ("picture", "query", "answer", "boxes (pixels)", "score", "seconds")


def formatter(*, json: bool) -> Callable[[Prediction], str]:
    """What turns predictions, one after the other, into lines; the table's head comes with the first."""
    if json:
        return lambda prediction: orjson.dumps(to_json(prediction), option=orjson.OPT_APPEND_NEWLINE).decode()
    head = _line(*_HEAD)

    def line(prediction: Prediction) -> str:
        nonlocal head
        text, head = head + _line(*row(prediction)), ""
        return text

    return line


def row(prediction: Prediction) -> tuple[str, ...]:
    """Picture, query, answer, boxes, score and seconds of a prediction, as short texts."""
    found = prediction.instances
    boxes = ["{:.0f},{:.0f},{:.0f},{:.0f}".format(*instance.prompt.box) for instance in found]
    scores = [instance.score for instance in found if instance.score is not None]
    return (
        prediction.image if len(prediction.image) <= _WIDTHS[0] else f"…{prediction.image[1 - _WIDTHS[0] :]}",
        prediction.query if len(prediction.query) <= _WIDTHS[1] else f"{prediction.query[: _WIDTHS[1] - 1]}…",
        verdict(prediction),
        " ".join(boxes[:2]) + (f" +{len(boxes) - 2}" if len(boxes) > 2 else "") if boxes else "-",
        f"{sum(scores) / len(scores):.2f}" if scores else "-",
        f"{sum(prediction.timings.values()):.2f}",
    )


def verdict(prediction: Prediction) -> str:
    """`2 found`, `no target`, or `refused: bad-json`."""
    if prediction.refusal is not None:
        return f"refused: {prediction.refusal.kind.value}"
    return "no target" if prediction.no_target else f"{len(prediction.instances)} found"


def _line(*cells: str) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return "  ".join(padded).rstrip() + "\n"
