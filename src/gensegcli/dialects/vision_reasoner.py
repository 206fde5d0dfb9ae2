"""VisionReasoner's dialect and ViSurf's variant: several objects, a box and one point each, in 840 × 840 pixels.

The frame (840 × 840, to which the picture is squashed) belongs to the model's entry and is given to `read`. The wording
is this project's. VisionReasoner has no way to abstain of its own and is offered ours; ViSurf (arXiv 2510.10606) was
trained to answer an empty list.
"""

from __future__ import annotations

from dataclasses import replace

from gensegcli.dialects.genseg import IN_PIXELS, NO_TARGET_SENTENCE
from gensegcli.dialects.json_answers import JsonDialect, Keys

KEYS = Keys(
    box="bbox_2d",
    points=("point_2d",),
    negatives=None,
    aliases={"bbox": "bbox_2d", "point": "point_2d", "point_1": "point_2d"},
)


def _question(no_target: str) -> str:
    return (
        'Find all objects in the picture that match this expression: "{query}"\n'
        "First think: compare the objects that could be meant and tell which differ from the rest. Then answer with "
        "JSON and nothing else. Write both in this form:\n"
        "<think>your reasoning</think><answer>JSON</answer>\n"
        'The JSON is a list with one entry per object: [{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]\n'
        '"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_2d" is a point in the '
        f"middle of the object. {IN_PIXELS}\n{no_target}"
    )


VISION_REASONER = JsonDialect("vision-reasoner", _question(NO_TARGET_SENTENCE), KEYS)

VISURF = JsonDialect(
    "visurf",
    _question(NO_TARGET_SENTENCE.replace('{"no_target": true}', "[]")),
    replace(KEYS, empty_abstains=True),
)
