"""Dialects whose answer is JSON between tags: one renderer and one reader, driven by a table of keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import read_box, read_point
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
    flat_objects,
    refusal,
    strict_parts,
    tolerant_parts,
    unfenced,
    without_fence,
)
from gensegcli.dialects.json_text import parse
from gensegcli.records import Answer, FinishReason, GridPoint, Instance, Refusal, RefusalKind

if TYPE_CHECKING:
    from gensegcli.records import Size

MAX_INSTANCES = 120
"""Instances read of one answer; what follows is ignored, so that a model that repeats itself cannot stall a reward."""

MAX_NEGATIVES = 2
NO_TARGET = "no_target"


@dataclass(frozen=True, slots=True)
class Keys:
    """How one instance is written.

    Attributes:
        box: key of `[x1, y1, x2, y2]`.
        points: keys of one `[x, y]` each.
        negatives: key of the optional list of background points; None where the dialect has none.
        aliases: other spellings that tolerant reading takes.
        single: the answer is one object instead of a list.
        empty_abstains: "nothing there" is written as an empty list.
    """

    box: str
    points: tuple[str, ...]
    negatives: str | None
    aliases: dict[str, str]
    single: bool = False
    empty_abstains: bool = False


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
        dialect's keys, and all numbers lie in the closed frame with x1 < x2 and y1 < y2.

        Tolerant: `grammar.tolerant_parts` finds the body, which may be fenced, have trailing commas, numbers as
        strings, alias keys, further keys and no points, be one object instead of a list, stand in prose, or end
        anywhere after one whole instance. Ranges hold as before. An abstention counts only between answer tags or as
        all there is beside a closed think part: in prose, a model that quotes the rule has not abstained.

        At most 120 instances are read.
        """
        if not isinstance(text, str):
            return Refusal(RefusalKind.NO_ANSWER, f"no text but {type(text).__name__}")
        if not text.strip():
            return Refusal(RefusalKind.EMPTY, "no text")
        try:
            parts = strict_parts(text) if strict else tolerant_parts(text)
            if parts.thinking and finish is FinishReason.LENGTH:
                raise ReadingError(RefusalKind.NO_ANSWER, "cut off while thinking")
            objects = self._strict_objects(parts) if strict else self._tolerant_objects(parts)
            instances = self._instances(objects, frame, strict=strict)
            if not instances and not strict and not _abstains(parts):
                raise ReadingError(RefusalKind.NO_ANSWER, f"an abstention only in passing: {excerpt(parts.body)}")
            return Answer(instances, parts.think)
        except ReadingError as why:
            return refusal(why, finish, tolerant_parts(text).think)

    def _write(self, instance: Instance, frame: Size | None) -> dict[str, Any]:
        written: dict[str, Any] = {self.keys.box: to_frame(instance.box, frame)}
        for key, point in zip(self.keys.points, instance.points, strict=False):
            written[key] = to_frame(point, frame)
        if self.keys.negatives and instance.negatives:
            written[self.keys.negatives] = [to_frame(point, frame) for point in instance.negatives]
        return written

    # ------------------------------------------------------------ body → objects

    def _strict_objects(self, parts: Parts) -> list[Any]:
        value = parse(parts.body, strict=True)
        if isinstance(value, dict) and (self.keys.single or NO_TARGET in value):
            return [value]
        listed = isinstance(value, list) and not any(isinstance(one, dict) and NO_TARGET in one for one in value)
        if listed and (not self.keys.single or not value):
            return value
        wanted = "an object" if self.keys.single else f"a list, or an object with {NO_TARGET},"
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{wanted} expected, found {excerpt(parts.body)}")

    def _tolerant_objects(self, parts: Parts) -> list[Any]:
        body = unfenced(parts.body)
        if parts.tagged or body.startswith(("[", "{")):
            try:
                value = parse(body, strict=False)
            except ReadingError as why:
                return self._whole_objects(parts, why)
            return value if isinstance(value, list) else [value]
        return self._whole_objects(parts, ReadingError(RefusalKind.NO_ANSWER, f"no answer in {excerpt(parts.body)}"))

    def _whole_objects(self, parts: Parts, otherwise: ReadingError) -> list[Any]:
        """The objects of a body that as a whole is no JSON: prose around it, or a tail that was cut off."""
        marks = [f'"{key}"' for key in (self.keys.box, NO_TARGET, *self.keys.aliases)]
        runs = [run for run in flat_objects(parts.body) if any(mark in run[0] for mark in marks)]
        # In an answer part, two runs have something unreadable between them, and reading on would hide that.
        if not runs or (parts.tagged and len(runs) > 1):
            if otherwise.kind is RefusalKind.NO_ANSWER and any(mark in parts.body for mark in marks):
                raise ReadingError(RefusalKind.BAD_JSON, otherwise.detail)
            raise otherwise
        return [parse(found, strict=False) for found in runs[-1][:MAX_INSTANCES]]

    # ------------------------------------------------------------ objects → instances

    def _instances(self, objects: list[Any], frame: Size | None, *, strict: bool) -> tuple[Instance, ...]:
        if not objects and not self.keys.empty_abstains:
            raise ReadingError(RefusalKind.EMPTY_LIST, f'an empty list; "nothing there" is {{"{NO_TARGET}": true}}')
        read = objects[:MAX_INSTANCES]
        if any(isinstance(found, dict) and found.get(NO_TARGET) is True for found in read):
            alone = len(objects) == 1 and (len(read[0]) == 1 or (not strict and self.keys.box not in read[0]))
            if alone:
                return ()
            raise ReadingError(RefusalKind.WRONG_KEYS, f"{NO_TARGET} does not stand alone: {excerpt(objects)}")
        return tuple(self._instance(found, frame, strict=strict) for found in read)

    def _instance(self, found: Any, frame: Size | None, *, strict: bool) -> Instance:
        box, points, negatives = self.keys.box, self.keys.points, self.keys.negatives
        if not isinstance(found, dict):
            raise ReadingError(RefusalKind.WRONG_KEYS, f"an object with {box} expected, found {excerpt(found)}")
        if not strict:
            found = {self.keys.aliases.get(key, key): value for key, value in found.items()}
        needed = {box, *points} if strict else {box}
        if missing := needed - found.keys():
            raise ReadingError(RefusalKind.WRONG_KEYS, f"without {excerpt(sorted(missing), 60)}")
        if strict and (spare := found.keys() - {box, *points, negatives}):
            raise ReadingError(RefusalKind.WRONG_KEYS, f"with {excerpt(sorted(spare), 60)}")
        return Instance(
            read_box(box, found[box], frame, strict=strict),
            tuple(read_point(key, found[key], frame, strict=strict) for key in points if key in found),
            self._negatives(found, frame, strict=strict),
        )

    def _negatives(self, found: dict[str, Any], frame: Size | None, *, strict: bool) -> tuple[GridPoint, ...]:
        key = self.keys.negatives
        if key is None or key not in found:
            return ()
        value = found[key]
        if not isinstance(value, list) or (strict and len(value) > MAX_NEGATIVES):
            raise ReadingError(
                RefusalKind.WRONG_KEYS, f"{key}: up to {MAX_NEGATIVES} points expected: {excerpt(value)}"
            )
        return tuple(read_point(key, one, frame, strict=strict) for one in value[:MAX_NEGATIVES])


def _abstains(parts: Parts) -> bool:
    """Whether the abstention that was found in the body is the answer, and not words about it."""
    if parts.aside or parts.enclosed:
        return not parts.aside
    try:
        parse(without_fence(parts.body), strict=False)
    except ReadingError:
        return False
    return True
