"""GenSeg's own dialect: boxes with two points each, or an honest "nothing there".

The question comes in one wording per coordinate convention, with or without background points; the answers and their
reader are the same. Changing a word of a template changes its digest, which is stored with every result and checkpoint.
"""

from __future__ import annotations

from gensegcli.dialects.json_answers import JsonDialect, Keys

KEYS = Keys(
    box="bbox_2d",
    points=("point_1", "point_2"),
    negatives="negative_points",
    aliases={"bbox": "bbox_2d", "points_1": "point_1", "points_2": "point_2"},
)

NO_TARGET_SENTENCE = 'If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.'
"""Stands in every question, the baselines' too: a model that has no way to abstain cannot be blamed for not doing so."""

_ON_GRID = (
    "All coordinates are whole numbers on a grid from 0 to 1000 in both directions, whatever the shape of the picture: "
    "(0, 0) is its top left corner and (1000, 1000) its bottom right corner."
)
IN_PIXELS = (
    "All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, "
    "x grows to the right and y downwards."
)
_FORM = '[{"bbox_2d": [x1, y1, x2, y2], "point_1": [x, y], "point_2": [x, y]}]'
_FORM_NEGATIVES = (
    '[{"bbox_2d": [x1, y1, x2, y2], "point_1": [x, y], "point_2": [x, y], "negative_points": [[x, y], [x, y]]}]'
)
_NEGATIVES = (
    '"negative_points" are up to two points inside the box but clearly off the object and off every other matching '
    "object, where background shows; leave them out if the box shows none. "
)


def _question(coordinates: str, form: str = _FORM, negatives: str = "") -> str:
    return (
        'Find every object in the picture that matches this expression: "{query}"\n'
        "First think: go through the objects that could be meant, compare each with the expression, and decide which of "
        "them match, be it one, several or none. Then answer with JSON and nothing else. Write both in this form:\n"
        "<think>your reasoning</think><answer>JSON</answer>\n"
        f"The JSON is a list with one entry per matching object: {form}\n"
        '"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_1" and "point_2" are '
        "two points well inside the object, on its visible part, and apart from each other. "
        f"{negatives}{coordinates}\n{NO_TARGET_SENTENCE}"
    )


GRID = JsonDialect("genseg", _question(_ON_GRID), KEYS)
"""For models that answer on the grid (Qwen3-VL)."""

PIXELS = JsonDialect("genseg-pixels", _question(IN_PIXELS), KEYS)
"""For models that answer in pixels of the picture as their processor resized it (Qwen2.5-VL)."""

NEGATIVES = JsonDialect("genseg-neg", _question(_ON_GRID, _FORM_NEGATIVES, _NEGATIVES), KEYS)
"""Asks for background points as well: what the negative-point reward needs."""

MINI = JsonDialect("genseg-mini", "Find: {query}", KEYS, rounding=10)
"""For the bundled miniature, which knows nothing but this task and needs no explanation."""

MINI_NEGATIVES = JsonDialect("genseg-mini-neg", "Find, with negative_points: {query}", KEYS, rounding=MINI.rounding)
"""The same with background points. The bundled weights must be taught it first."""
