"""Seg-R1's dialect (arXiv 2506.22624): boxes, points and point labels in tags of their own, in 768 × 768 pixels.

No row of the model table uses it yet: whoever does sets `squash` to 768 × 768 in the row, by which pictures are
stretched and which is given to `read` as the frame. One list of points serves all boxes: each box takes those that lie
in it, label 1 as its points, label 0 as its negatives, and points in no box belong to nothing. The wording is this project's, with our way to abstain.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import Tally, is_box, read_box, read_point, refuse_fractions
from gensegcli.dialects.entries import NO_TARGET, object_runs
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
)
from gensegcli.dialects.json_answers import INSTANCES, MAX_INSTANCES, is_statement
from gensegcli.dialects.json_answers import POINTS as DROPPED_POINTS
from gensegcli.dialects.json_text import as_float, parse
from gensegcli.dialects.tokens import without_control_tokens
from gensegcli.records import Answer, FinishReason, Instance, Refusal, RefusalKind

if TYPE_CHECKING:
    from gensegcli.dialects.grammar import Parts
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
        cut off, and then the boxes stand alone; what cannot be used is dropped and counted, and an abstention counts,
        as `JsonDialect.read` has it. At most 120 boxes and 1000 points are read.
        """
        if not isinstance(text, str):
            return Refusal(RefusalKind.NO_ANSWER, f"no text but {type(text).__name__}")
        if not (text if strict else without_control_tokens(text)).strip():
            return Refusal(RefusalKind.EMPTY, "no text")
        parts = tolerant_parts(text)
        try:
            return _strict_answer(text, frame) if strict else _tolerant_answer(parts, frame)
        except ReadingError as why:
            return refusal(why, finish, parts.think)


def _strict_answer(text: str, frame: Size | None) -> Answer:
    think, rest = _strict_form(text)
    if _NO_TARGET.fullmatch(rest):
        return Answer((), think)
    boxes = [
        read_box(BBOX, parse(one, strict=True), frame, strict=True) for one in elements(rest, BBOX)[:MAX_INSTANCES]
    ]
    points, labels = parse(elements(rest, POINTS)[0], strict=True), parse(elements(rest, LABELS)[0], strict=True)
    marked = [
        (read_point(POINTS, point, frame, strict=True), _label(label, strict=True))
        for point, label in _pairs(points, labels)
    ]
    return Answer(_instances(boxes, marked), think)


def _tolerant_answer(parts: Parts, frame: Size | None) -> Answer:
    if _abstains(parts):
        return Answer((), parts.think)
    tally = Tally()
    boxes = _boxes(parts.body, frame, tally)
    if not boxes and tally.first is not None:
        raise tally.first
    points = _points(parts.body, frame, tally)
    return Answer(_instances(boxes, points), parts.think, dict(tally.dropped), tally.clipped)


def _abstains(parts: Parts) -> bool:
    found = [one for run in object_runs(parts.body, (NO_TARGET,)) for one in run if isinstance(one, dict)]
    if not any(one.get(NO_TARGET) is True for one in found):
        return False
    if f"<{BBOX}>" in parts.body:
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{NO_TARGET} does not stand alone")
    if not is_statement(parts):
        raise ReadingError(RefusalKind.NO_ANSWER, f"an abstention only in passing: {excerpt(parts.body)}")
    return True


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


def _boxes(text: str, frame: Size | None, tally: Tally) -> list[GridBox]:
    written = elements(text, BBOX)
    if not written:
        kind = RefusalKind.BAD_JSON if f"<{BBOX}>" in text else RefusalKind.NO_ANSWER
        raise ReadingError(kind, f"no bbox part in {excerpt(text)}")
    values: list[Any] = []
    for one in written[:MAX_INSTANCES]:
        value = tally.attempt(INSTANCES, lambda one=one: [parse(one, strict=False)]) or []
        nested = value and isinstance(value[0], list) and value[0] and all(map(is_box, value[0]))
        values.extend(value[0] if nested else value)
    refuse_fractions(values, frame)
    read = (
        tally.attempt(INSTANCES, lambda value=value: read_box(BBOX, value, frame, strict=False, tally=tally))
        for value in values[:MAX_INSTANCES]
    )
    return [box for box in read if box is not None]


def _points(text: str, frame: Size | None, tally: Tally) -> list[tuple[GridPoint, int]]:
    written, marked = elements(text, POINTS), elements(text, LABELS)
    if not written or not marked:
        return []
    pairs = tally.attempt(
        DROPPED_POINTS, lambda: _pairs(parse(written[-1], strict=False), parse(marked[-1], strict=False))
    )
    read = (
        tally.attempt(
            DROPPED_POINTS,
            lambda point=point, label=label: (
                read_point(POINTS, point, frame, strict=False, tally=tally),
                _label(label, strict=False),
            ),
        )
        for point, label in pairs or ()
    )
    return [point for point in read if point is not None]


def _pairs(points: Any, labels: Any) -> list[tuple[Any, Any]]:
    if not isinstance(points, list) or not isinstance(labels, list) or len(points) != len(labels):
        raise ReadingError(RefusalKind.WRONG_KEYS, f"one label per point expected: {excerpt(labels)}")
    return list(zip(points[:MAX_POINTS], labels[:MAX_POINTS], strict=True))


def _label(label: Any, *, strict: bool) -> int:
    number = as_float(label, strict=strict)
    if number is None or number not in (0, 1):
        raise ReadingError(RefusalKind.WRONG_KEYS, f"labels are 0 or 1, found {excerpt(label)}")
    return int(number)


def _instances(boxes: list[GridBox], points: list[tuple[GridPoint, int]]) -> tuple[Instance, ...]:
    def inside(box: GridBox, wanted: int) -> tuple[GridPoint, ...]:
        return tuple(
            point
            for point, label in points
            if label == wanted and box.x1 <= point.x <= box.x2 and box.y1 <= point.y <= box.y2
        )

    return tuple(Instance(box, inside(box, 1), inside(box, 0)) for box in boxes)


SEG_R1 = SegR1()
