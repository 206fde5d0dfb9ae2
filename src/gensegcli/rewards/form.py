"""Terms on how a completion is written: its think part, its answer part, and sentences that repeat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import read_box, read_point
from gensegcli.dialects.grammar import TAGS, ReadingError, tolerant_parts
from gensegcli.dialects.json_answers import MAX_INSTANCES, NO_TARGET, Keys
from gensegcli.dialects.json_text import parse
from gensegcli.records import Answer, RefusalKind
from gensegcli.rewards.rollout import answer_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.records import Size
    from gensegcli.rewards.rollout import Rollout

REPEATS = 2
"""So many sentences that stood before make a think text repetitive."""

_SHORTEST = 3
"""Words of a sentence that counts: "yes" may stand twice."""

_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n")


def think_format(rollout: Rollout) -> float:
    """1 where the completion is exactly a think part and an answer part, else 0.

    Soft: what is not exact earns an eighth for each of the four tags that stands exactly once.
    """
    whole = rollout.dialect.read(rollout.text, frame=rollout.frame, strict=True)
    if isinstance(whole, Answer) or whole.kind not in (RefusalKind.BAD_FORM, RefusalKind.EMPTY, RefusalKind.NO_ANSWER):
        return 1.0
    return sum(rollout.text.count(tag) == 1 for tag in TAGS) / 8 if rollout.soft else 0.0


def answer_format(rollout: Rollout) -> float:
    """Mean over instances of [valid box] + [all points valid], 0 to 2; 2 for a well-written "nothing there".

    Valid means what the strict reader takes. An entry with keys that the dialect does not have earns nothing.
    """
    body = answer_part(rollout.text)
    keys = _keys(rollout)
    if keys is None:  # a form of its own, read as a whole
        read = rollout.dialect.read(rollout.text, frame=rollout.frame, strict=True)
        return 2.0 if isinstance(read, Answer) else 0.0
    if body is None:
        return 0.0
    try:
        value = parse(body, strict=True)
    except ReadingError:
        return 0.0
    if value == {NO_TARGET: True} or (value == [] and keys.empty_abstains):
        return 2.0
    if isinstance(value, list) == keys.single or not value:
        return 0.0
    entries = [value] if keys.single else value[:MAX_INSTANCES]
    return sum(_entry_credit(entry, keys, rollout.frame) for entry in entries) / len(entries)


def non_repetition(rollout: Rollout) -> float:
    """0 where two or more sentences of the think text stood in it before, else 1.

    Sentences are compared in lower case, and those of fewer than three words do not count. A text without any tag is
    all thinking.
    """
    parts = tolerant_parts(rollout.text)
    think = parts.think or ("" if parts.tagged else rollout.text)
    sentences = [" ".join(sentence.lower().split()) for sentence in _SENTENCE_END.split(think)]
    counted = [sentence for sentence in sentences if len(sentence.split()) >= _SHORTEST]
    return 0.0 if len(counted) - len(set(counted)) >= REPEATS else 1.0


def _keys(rollout: Rollout) -> Keys | None:
    """The key table of a JSON dialect, also behind a question of the user's own."""
    dialect = getattr(rollout.dialect, "base", rollout.dialect)
    return getattr(dialect, "keys", None)


def _entry_credit(entry: Any, keys: Keys, frame: Size | None) -> int:
    known = {keys.box, *keys.points, *([keys.negatives] if keys.negatives else [])}
    if not isinstance(entry, dict) or entry.keys() - known:
        return 0
    box = _reads(lambda: read_box(keys.box, entry.get(keys.box), frame, strict=True))
    points = all(_reads(lambda key=key: read_point(key, entry.get(key), frame, strict=True)) for key in keys.points)
    return box + points


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except ReadingError:
        return False
    return True
