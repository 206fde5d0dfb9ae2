"""Seg-R1's dialect (arXiv 2506.22624): boxes, points and point labels in tags of their own, in 768 × 768 pixels.

No row of the model table uses it yet: whoever does sets `squash` to 768 × 768 in the row, by which pictures are
stretched and which is given to `read` as the frame. One list of points serves all boxes: each box takes those that lie in it, label 1 as its points, label 0 as its negatives, and
points in no box are dropped. The wording is this project's, with our way to abstain.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import read_box, read_point
from gensegcli.dialects.frames import to_frame
from gensegcli.dialects.genseg import IN_PIXELS, NO_TARGET_SENTENCE
from gensegcli.dialects.grammar import (
    THINK,
    THINK_END,
    WHITE,
    ReadingError,
    elements,
    excerpt,
    refusal,
    tolerant_parts,
    without_fence,
)
from gensegcli.dialects.json_answers import MAX_INSTANCES, NO_TARGET
from gensegcli.dialects.json_text import as_float, parse
from gensegcli.records import Answer, FinishReason, Instance, Refusal, RefusalKind

if TYPE_CHECKING:
    from gensegcli.records import GridBox, GridPoint, Size

BBOX, POINTS, LABELS = "bbox", "points", "labels"

MAX_POINTS = 1000
"""Points read of one answer."""

_TAG = re.compile(r"</?(?:think|bbox|points|labels)>")
_NO_TARGET = re.compile(rf'\{{[ \t\n\r]*"{NO_TARGET}"[ \t\n\r]*:[ \t\n\r]*true[ \t\n\r]*\}}')
_TEMPLATE = (
    'Segment what this expression describes in the picture: "{query}"\n'
    "First think about where it is and what its outline looks like. Then give boxes and points that outline it. Write "
    "all in this form:\n"
    "<think>your reasoning</think><bbox>[x1, y1, x2, y2]</bbox><points>[[x, y], [x, y]]</points><labels>[1, 0]</labels>\n"
    "Give one bbox part for each separate region: left, top, right and bottom edge. The points of all regions stand in "
    "one list; labels has one number per point, 1 for a point on the object and 0 for a point on the background.\n"
    f"{IN_PIXELS}\n{NO_TARGET_SENTENCE}"
)


class SegR1:
    """See `Dialect`."""

    name = "seg-r1"
    template = _TEMPLATE
    digest = hashlib.sha256(_TEMPLATE.encode()).hexdigest()[:12]
    asks_negatives = True
    rounding = 1

    def ask(self, query: str) -> str:
        return self.template.replace("{query}", query)

    def render(self, answer: Answer, *, frame: Size | None = None) -> str:
        """See `Dialect`. Strict reading gives back answers whose points each lie in their own box and in no other.

        Raises:
            ValueError: the think text holds a tag of the form.
        """
        think = answer.think or ""
        if _TAG.search(think):
            raise ValueError(f"a think text cannot hold the tags of the form: {excerpt(think)}")
        head = f"{THINK}{think}{THINK_END}"
        if answer.no_target:
            return head + json.dumps({NO_TARGET: True})
        boxes = "".join(f"<bbox>{json.dumps(to_frame(one.box, frame))}</bbox>" for one in answer.instances)
        labelled = [
            (to_frame(point, frame), label)
            for one in answer.instances
            for label, points in ((1, one.points), (0, one.negatives))
            for point in points
        ]
        points, labels = [point for point, _ in labelled], [label for _, label in labelled]
        return f"{head}{boxes}<points>{json.dumps(points)}</points><labels>{json.dumps(labels)}</labels>"

    def read(
        self, text: str, *, frame: Size | None = None, finish: FinishReason | None = None, strict: bool = False
    ) -> Answer | Refusal:
        """See `Dialect`.

        Strict: think, one or more bbox, points and labels in that order with only white space between them, as many
        labels as points. Tolerant: the parts after the think part in any order; points and labels may be missing or
        cut off, and then the boxes stand alone; an abstention counts where `JsonDialect.read` takes one. At most 120
        boxes and 1000 points are read.
        """
        if not isinstance(text, str):
            return Refusal(RefusalKind.NO_ANSWER, f"no text but {type(text).__name__}")
        if not text.strip():
            return Refusal(RefusalKind.EMPTY, "no text")
        parts = tolerant_parts(text)
        try:
            if strict:
                think, rest = _strict_form(text)
            else:
                think, rest = parts.think, parts.body
            if (_NO_TARGET.fullmatch if strict else _NO_TARGET.search)(rest):
                if f"<{BBOX}>" in rest:
                    raise ReadingError(RefusalKind.WRONG_KEYS, f"{NO_TARGET} does not stand alone")
                if not strict and (parts.aside or not (parts.enclosed or _NO_TARGET.fullmatch(without_fence(rest)))):
                    raise ReadingError(RefusalKind.NO_ANSWER, f"an abstention only in passing: {excerpt(rest)}")
                return Answer((), think)
            boxes = _boxes(rest, frame, strict=strict)
            return Answer(_instances(boxes, _points(rest, frame, strict=strict)), think)
        except ReadingError as why:
            return refusal(why, finish, parts.think)


def _strict_form(text: str) -> tuple[str | None, str]:
    """Think text and the rest, in which the tags stand in order and nothing stands between them."""
    text = text.strip(WHITE)
    tags = [found.group() for found in _TAG.finditer(text)]
    boxes = ["<bbox>", "</bbox>"] * max(tags.count("<bbox>"), 1)
    form = ["<think>", "</think>", *boxes, "<points>", "</points>", "<labels>", "</labels>"]
    think, ended, rest = text.partition(THINK_END)
    rest = rest.strip(WHITE)
    abstains = tags == form[:2] and _NO_TARGET.fullmatch(rest)
    if not ended or not think.startswith(THINK) or (tags != form and not abstains):
        raise ReadingError(RefusalKind.BAD_FORM, f"not think, bbox, points, labels: {excerpt(''.join(tags), 80)}")
    between = "" if abstains else "".join(re.split(r"<(?:bbox|points|labels)>|</(?:bbox|points|labels)>", rest)[::2])
    if between.strip(WHITE):
        raise ReadingError(RefusalKind.BAD_FORM, f"text between the parts: {excerpt(between.strip())}")
    return think[len(THINK) :] or None, rest


def _boxes(text: str, frame: Size | None, *, strict: bool) -> list[GridBox]:
    written = elements(text, BBOX)
    if not written:
        kind = RefusalKind.BAD_JSON if f"<{BBOX}>" in text else RefusalKind.NO_ANSWER
        raise ReadingError(kind, f"no bbox part in {excerpt(text)}")
    values: list[Any] = []
    for one in written[:MAX_INSTANCES]:
        value = parse(one, strict=strict)
        nested = not strict and isinstance(value, list) and value and isinstance(value[0], list)
        values.extend(value if nested else [value])
    return [read_box(BBOX, value, frame, strict=strict) for value in values[:MAX_INSTANCES]]


def _points(text: str, frame: Size | None, *, strict: bool) -> list[tuple[GridPoint, int]]:
    written, marked = elements(text, POINTS), elements(text, LABELS)
    if not strict and (not written or not marked):
        return []
    points, labels = parse(written[-1], strict=strict), parse(marked[-1], strict=strict)
    if not isinstance(points, list) or not isinstance(labels, list) or len(points) != len(labels):
        raise ReadingError(RefusalKind.WRONG_KEYS, f"one label per point expected: {excerpt(labels)}")
    found = []
    for point, label in zip(points[:MAX_POINTS], labels[:MAX_POINTS], strict=True):
        number = as_float(label, strict=strict)
        if number is None or number not in (0, 1):
            raise ReadingError(RefusalKind.WRONG_KEYS, f"labels are 0 or 1, found {excerpt(label)}")
        found.append((read_point(POINTS, point, frame, strict=strict), int(number)))
    return found


def _instances(boxes: list[GridBox], points: list[tuple[GridPoint, int]]) -> tuple[Instance, ...]:
    def inside(box: GridBox, wanted: int) -> tuple[GridPoint, ...]:
        return tuple(
            point
            for point, label in points
            if label == wanted and box.x1 <= point.x <= box.x2 and box.y1 <= point.y <= box.y2
        )

    return tuple(Instance(box, inside(box, 1), inside(box, 0)) for box in boxes)


SEG_R1 = SegR1()
