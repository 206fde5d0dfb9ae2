"""Dialects whose answer is JSON between tags: one renderer and one reader, driven by a table of keys."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import Tally, read_box, read_point, refuse_fractions
from gensegcli.dialects.entries import NO_TARGET, Keys, abstains, entries, not_alone, object_runs
from gensegcli.dialects.frames import to_frame
from gensegcli.dialects.grammar import (
    ANSWER,
    ANSWER_END,
    TAGS,
    THINK,
    THINK_END,
    Parts,
    ReadingError,
    excerpt,
    refusal,
    strict_parts,
    tolerant_parts,
    unfenced,
    without_fence,
)
from gensegcli.dialects.json_text import parse
from gensegcli.dialects.tokens import without_control_tokens
from gensegcli.records import Answer, FinishReason, GridPoint, Instance, Refusal, RefusalKind

if TYPE_CHECKING:
    from gensegcli.records import Size

MAX_INSTANCES = 120
"""Instances read of one answer; what follows is ignored, so that a model that repeats itself cannot stall a reward."""

MAX_NEGATIVES = 2

INSTANCES, POINTS, NEGATIVES = "instances", "points", "negatives"
"""Names of the parts that `Answer.dropped` counts."""

_JSON_BEGINS = ("[", "{", "\uff3b", "\u3010", "\uff5b")


class JsonDialect:
    """See `Dialect`. The completion is `<think>TEXT</think><answer>JSON</answer>`."""

    def __init__(self, name: str, template: str, keys: Keys, *, rounding: int = 1) -> None:
        self.name = name
        self.template = template
        self.digest = hashlib.sha256(template.encode()).hexdigest()[:12]
        self.keys = keys
        self.asks_negatives = keys.negatives is not None and keys.negatives in template
        self.rounding = rounding

    def ask(self, query: str) -> str:
        # Not str.format: the template shows JSON, and an expression may hold braces.
        return self.template.replace("{query}", query)

    def render(self, answer: Answer, *, frame: Size | None = None) -> str:
        """See `Dialect`. Exact on the grid, to a thousandth of a unit in a frame.

        Points and negatives beyond what the dialect has keys for are left out. Strict reading gives back an answer
        whose instances have all points, at most two negatives, and coordinates in range.

        Raises:
            ValueError: the think text holds a tag of the form, or a dialect for one object gets several.
        """
        think = answer.think or ""
        if any(tag in think for tag in TAGS):
            raise ValueError(f"a think text cannot hold the tags of the form: {excerpt(think)}")
        if self.keys.single and len(answer.instances) > 1:
            raise ValueError(f"{self.name} answers with one object, {len(answer.instances)} given")
        written: Any = [self._write(instance, frame) for instance in answer.instances]
        if not written:
            written = [] if self.keys.empty_abstains else {NO_TARGET: True}
        elif self.keys.single:
            written = written[0]
        return f"{THINK}{think}{THINK_END}{ANSWER}{json.dumps(written)}{ANSWER_END}"

    def read(
        self, text: str, *, frame: Size | None = None, finish: FinishReason | None = None, strict: bool = False
    ) -> Answer | Refusal:
        """See `Dialect`.

        Strict: `grammar.strict_parts` holds, the body is JSON without repeated keys, each instance has exactly the
        dialect's keys, and all numbers lie in the closed frame with x1 < x2 and y1 < y2. Control tokens are text like
        any other: whoever trains gives completions without special tokens.

        Tolerant: `grammar.tolerant_parts` finds the body, which may be fenced, have the liberties of `json_text.parse`
        and of `entries`, alias keys, further keys and no points, stand in prose, or end anywhere after one whole
        instance. A part that cannot be used costs that part only, and `Answer.dropped` counts it: a point that is none
        or lies off the frame, an entry without a box in the frame. What misses the frame by up to 2 % is clipped. If no
        instance is left, the first defect is the refusal; boxes in fractions are one of their own. An abstention counts
        only between answer tags or as all there is beside a closed think part: in prose, a model that quotes the rule
        has not abstained.

        At most 120 instances are read.
        """
        if not isinstance(text, str):
            return Refusal(RefusalKind.NO_ANSWER, f"no text but {type(text).__name__}")
        if not (text if strict else without_control_tokens(text)).strip():
            return Refusal(RefusalKind.EMPTY, "no text")
        try:
            parts = strict_parts(text) if strict else tolerant_parts(text)
            return self._strict_answer(parts, frame) if strict else self._tolerant_answer(parts, frame, finish)
        except ReadingError as why:
            return refusal(why, finish, tolerant_parts(text).think)

    def _write(self, instance: Instance, frame: Size | None) -> dict[str, Any]:
        written: dict[str, Any] = {self.keys.box: to_frame(instance.box, frame)}
        for key, point in zip(self.keys.points, instance.points, strict=False):
            written[key] = to_frame(point, frame)
        if self.keys.negatives and instance.negatives:
            written[self.keys.negatives] = [to_frame(point, frame) for point in instance.negatives]
        return written

    # ------------------------------------------------------------ strict

    def _strict_answer(self, parts: Parts, frame: Size | None) -> Answer:
        objects = self._strict_objects(parts)
        if objects and isinstance(objects[0], dict) and objects[0].get(NO_TARGET) is True:
            if len(objects[0]) > 1:
                raise not_alone(objects)
            return Answer((), parts.think)
        self._refuse_empty(objects)
        instances = tuple(self._strict_instance(found, frame) for found in objects[:MAX_INSTANCES])
        return Answer(instances, parts.think)

    def _strict_objects(self, parts: Parts) -> list[Any]:
        value = parse(parts.body, strict=True)
        if isinstance(value, dict) and (self.keys.single or NO_TARGET in value):
            return [value]
        listed = isinstance(value, list) and not any(isinstance(one, dict) and NO_TARGET in one for one in value)
        if listed and (not self.keys.single or not value):
            return value
        wanted = "an object" if self.keys.single else f"a list, or an object with {NO_TARGET},"
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{wanted} expected, found {excerpt(parts.body)}")

    def _strict_instance(self, found: Any, frame: Size | None) -> Instance:
        box, points, negatives = self.keys.box, self.keys.points, self.keys.negatives
        if not isinstance(found, dict):
            raise ReadingError(RefusalKind.WRONG_KEYS, f"an object with {box} expected, found {excerpt(found)}")
        if missing := {box, *points} - found.keys():
            raise ReadingError(RefusalKind.WRONG_KEYS, f"without {excerpt(sorted(missing), 60)}")
        if spare := found.keys() - {box, *points, negatives}:
            raise ReadingError(RefusalKind.WRONG_KEYS, f"with {excerpt(sorted(spare), 60)}")
        off_object = found.get(negatives, []) if negatives else []
        if not isinstance(off_object, list) or len(off_object) > MAX_NEGATIVES:
            detail = f"{negatives}: up to {MAX_NEGATIVES} points expected: {excerpt(off_object)}"
            raise ReadingError(RefusalKind.WRONG_KEYS, detail)
        return Instance(
            read_box(box, found[box], frame, strict=True),
            tuple(read_point(key, found[key], frame, strict=True) for key in points),
            tuple(read_point(str(negatives), one, frame, strict=True) for one in off_object),
        )

    # ------------------------------------------------------------ tolerant

    def _tolerant_answer(self, parts: Parts, frame: Size | None, finish: FinishReason | None) -> Answer:
        if parts.thinking and finish is FinishReason.LENGTH:
            raise ReadingError(RefusalKind.NO_ANSWER, "cut off while thinking")
        found = self._tolerant_entries(parts)
        self._refuse_empty(found)
        if not found or abstains(found, self.keys):
            if not is_statement(parts):
                raise ReadingError(RefusalKind.NO_ANSWER, f"an abstention only in passing: {excerpt(parts.body)}")
            return Answer((), parts.think)
        read = found[:MAX_INSTANCES]
        refuse_fractions((one.get(self.keys.box) for one in read if isinstance(one, dict)), frame)
        tally = Tally()
        instances = [
            tally.attempt(INSTANCES, lambda one=one: self._tolerant_instance(one, frame, tally)) for one in read
        ]
        kept = tuple(instance for instance in instances if instance is not None)
        if not kept and tally.first is not None:
            raise tally.first
        return Answer(kept, parts.think, dict(tally.dropped), tally.clipped)

    def _refuse_empty(self, objects: list[Any]) -> None:
        if not objects and not self.keys.empty_abstains:
            raise ReadingError(RefusalKind.EMPTY_LIST, f'an empty list; "nothing there" is {{"{NO_TARGET}": true}}')

    def _tolerant_entries(self, parts: Parts) -> list[Any]:
        body = unfenced(parts.body)
        if parts.tagged or body.startswith(_JSON_BEGINS):
            try:
                value = parse(body, strict=False)
            except ReadingError as why:
                return self._whole_entries(parts, why)
            return entries(value, self.keys)
        return self._whole_entries(parts, ReadingError(RefusalKind.NO_ANSWER, f"no answer in {excerpt(parts.body)}"))

    def _whole_entries(self, parts: Parts, otherwise: ReadingError) -> list[Any]:
        """The entries of a body that as a whole is no JSON: prose around it, or a tail that was cut off."""
        marks = (NO_TARGET, self.keys.box, *(alias for alias, key in self.keys.aliases.items() if key == self.keys.box))
        runs = object_runs(parts.body, marks)
        # In an answer part, two runs have something unreadable between them, and reading on would hide that.
        if not runs or (parts.tagged and len(runs) > 1):
            if otherwise.kind is RefusalKind.NO_ANSWER and any(f'"{mark}"' in parts.body for mark in marks):
                raise ReadingError(RefusalKind.BAD_JSON, otherwise.detail)
            raise otherwise
        if all(isinstance(one, ReadingError) for one in runs[-1]):
            raise runs[-1][0]
        return [entry for one in runs[-1][:MAX_INSTANCES] for entry in entries(one, self.keys)]

    def _tolerant_instance(self, found: Any, frame: Size | None, tally: Tally) -> Instance:
        if isinstance(found, ReadingError):
            raise found
        key, points = self.keys.box, self.keys.points
        if not isinstance(found, dict):
            raise ReadingError(RefusalKind.WRONG_KEYS, f"an object with {key} expected, found {excerpt(found)}")
        if key not in found:
            raise ReadingError(RefusalKind.WRONG_KEYS, f"without {excerpt([key], 60)}")
        box = read_box(key, found[key], frame, strict=False, tally=tally)
        return Instance(
            box,
            _points(POINTS, {key: found[key] for key in points if key in found}, frame, tally),
            _points(NEGATIVES, self._negatives(found, tally), frame, tally),
        )

    def _negatives(self, found: dict[str, Any], tally: Tally) -> dict[str, Any]:
        """What stands for background points, by a name for each."""
        key = self.keys.negatives
        if key is None or key not in found:
            return {}
        value = found[key]
        if not isinstance(value, list):
            tally.drop(NEGATIVES, ReadingError(RefusalKind.WRONG_KEYS, f"{key}: points expected: {excerpt(value)}"))
            return {}
        return {f"{key}.{number}": one for number, one in enumerate(value[:MAX_NEGATIVES])}


def _points(part: str, written: dict[str, Any], frame: Size | None, tally: Tally) -> tuple[GridPoint, ...]:
    read = (
        tally.attempt(part, lambda key=key, one=one: read_point(key, one, frame, strict=False, tally=tally))
        for key, one in written.items()
    )
    return tuple(point for point in read if point is not None)


def is_statement(parts: Parts) -> bool:
    """Whether the abstention that was found in the body is the answer, and not words about it."""
    if parts.aside or parts.enclosed:
        return not parts.aside
    try:
        parse(without_fence(parts.body), strict=False)
    except ReadingError:
        return False
    return True
