"""Seg-Zero's dialect (arXiv 2503.06520): one object, a box and two points, in pixels of an 840 × 840 picture.

The frame (840 × 840, to which the picture is squashed) belongs to the model's entry and is given to `read`. The wording
is this project's, with the same way to abstain as ours; the authors' own text can be given as a custom prompt.
"""

from __future__ import annotations

from gensegcli.dialects.genseg import IN_PIXELS, NO_TARGET_SENTENCE
from gensegcli.dialects.json_answers import JsonDialect, Keys

KEYS = Keys(
    box="bbox",
    points=("points_1", "points_2"),
    negatives=None,
    aliases={"bbox_2d": "bbox", "point_1": "points_1", "point_2": "points_2"},
    single=True,
)

SEG_ZERO = JsonDialect(
    "seg-zero",
    'Find the one object in the picture that matches this expression best: "{query}"\n'
    "First think: compare the objects that could be meant. Then answer with JSON and nothing else. Write both in this "
    "form:\n"
    "<think>your reasoning</think><answer>JSON</answer>\n"
    'The JSON is one object: {"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}\n'
    '"bbox" is the tight box around the object: left, top, right and bottom edge. "points_1" and "points_2" are the '
    f"centres of the two largest circles that fit inside the object. {IN_PIXELS}\n{NO_TARGET_SENTENCE}",
    KEYS,
)
