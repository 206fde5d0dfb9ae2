"""Before the first step: samples that cannot be trained on. Met at step 700, one would end a run of hours.

Nothing is decoded: a picture's header gives its size, the size its number of tokens, and the ends of the file whether it is
whole. 15,000 samples take less than a minute on one core.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.images import sound_size
from gensegcli.policy.prompting import render_prompt
from gensegcli.records import Size
from gensegcli.sources.prepared import from_row
from gensegcli.train.questions import picture_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gensegcli.records import Sample
    from gensegcli.train.data import Samples
    from gensegcli.train.questions import Questions

_AT_A_TIME = 256
"""Prompts that are tokenised together."""

NAMED = 3
"""Samples of each kind that a message names."""


class Flaw(StrEnum):
    """Why a sample cannot be trained on, in the words of a message."""

    LONG = "prompt too long"
    PICTURE = "unreadable picture"
    DAMAGED = "damaged row"


@dataclass(frozen=True)
class BadRow:
    """A sample that cannot be trained on.

    Attributes:
        number: of the sample, in the order in which the set is stored.
        id: of the sample; its place in the set where it has none.
        flaw: what kind of fault it has.
        problem: what is wrong, in words.
    """

    number: int
    id: str
    flaw: Flaw
    problem: str

    def record(self) -> dict[str, Any]:
        """A line of `bad_rows.jsonl`."""
        return {"id": self.id, "row": self.number, "flaw": str(self.flaw), "problem": self.problem}


def bad_rows(samples: Samples, numbers: Iterable[int], questions: Questions | None) -> list[BadRow]:
    """Every sample that cannot be trained on, in the order in which they are stored.

    Args:
        samples: of the set.
        numbers: those that are to be trained on.
        questions: how they are asked; None where that is not known yet, and no prompt can be measured.

    Raises:
        GensegError: a shard cannot be read.
    """
    found: list[BadRow] = []
    sound = _sound(samples, sorted(numbers), found)
    while part := list(islice(sound, _AT_A_TIME)):
        if questions is not None:
            found += _too_long(part, questions)
    return sorted(found, key=lambda row: row.number)


def _sound(samples: Samples, numbers: Sequence[int], found: list[BadRow]) -> Iterator[tuple[int, Sample, Size]]:
    """Samples of sound form with the size of their picture; the others are added to `found`."""
    picture, size = b"", Size(0, 0)
    first: dict[str, int] = {}
    for number in numbers:
        row = samples.row(number)
        name = row["id"] if isinstance(row["id"], str) and row["id"] else f"row {number}"
        problem = damage(row)
        if not problem and first.setdefault(name, number) != number:
            problem = f"row {first[name]} has its id, too"
        if problem:
            found.append(BadRow(number, name, Flaw.DAMAGED, problem))
            continue
        sample = from_row(row)
        try:
            if sample.image != picture:  # sets keep the questions about a picture together
                picture, size = b"", sound_size(sample.image)
                picture = sample.image
        except GensegError as error:
            found.append(BadRow(number, name, Flaw.PICTURE, error.message))
            continue
        if size != sample.size:
            stated = "its picture is {}x{}, its row says {}x{}".format(*size, *sample.size)
            found.append(BadRow(number, name, Flaw.DAMAGED, stated))
        else:
            yield number, sample, size


def _too_long(part: Sequence[tuple[int, Sample, Size]], questions: Questions) -> list[BadRow]:
    texts = [render_prompt(questions.processor, questions.text(sample)) for _, sample, _ in part]
    tokens = questions.processor.tokenizer(texts)["input_ids"]
    found = []
    for (number, sample, size), ids in zip(part, tokens, strict=True):
        # As in `prompting.prompt_length`: the picture's tokens take the place of one.
        length = len(ids) - 1 + picture_tokens(questions.entry, size)
        if length > questions.most_tokens:
            problem = f"its prompt has {length} tokens, and train.max_prompt_tokens is {questions.most_tokens}"
            found.append(BadRow(number, sample.id, Flaw.LONG, problem))
    return found


def damage(row: Mapping[str, Any]) -> str:
    """What is wrong with a row of a prepared set; nothing if nothing is. The picture is not looked at."""
    try:
        sample = from_row(row)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"not in the form of a prepared row ({error})"
    texts = {"id": sample.id, "query": sample.query}
    empty = next((name for name, text in texts.items() if not isinstance(text, str) or not text.strip()), None)
    if empty:
        return f"no {empty}"
    if not sample.image:
        return "no picture"
    if not all(isinstance(side, int) and side > 0 for side in sample.size):
        return "its size is {}x{}".format(*sample.size)
    if row["no_target"] is not sample.no_target:
        return f"no_target is {row['no_target']}, and it has {len(sample.targets)} objects"
    for place, target in enumerate(sample.targets, start=1):
        problem = _target_damage(target, sample.size)
        if problem:
            return f"object {place}: {problem}"
    return ""


def _target_damage(target: Any, size: Size) -> str:
    box = target.box
    if not all(isinstance(value, float) and isfinite(value) for value in box) or box[0] > box[2] or box[1] > box[3]:
        return f"its box is {list(box)}"
    wrong = next((list(point) for point in (*target.points, *target.negatives) if not all(map(_number, point))), None)
    if wrong is not None:
        return f"a point of it is {wrong}"
    if target.mask is None:
        return ""
    if target.mask.size != size:
        return "its mask is {}x{}, the picture {}x{}".format(*target.mask.size, *size)
    try:
        rle.decode_patch(target.mask)
    except GensegError as error:
        return error.message
    return ""


def _number(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)


def told(bad: Sequence[BadRow], of: int) -> str:
    """How many samples of how many have what fault, and the first of each kind."""
    kinds = Counter(row.flaw for row in bad)
    parts = []
    for flaw, count in kinds.items():
        own = [row for row in bad if row.flaw is flaw]
        first = "; ".join(f"{row.id}: {row.problem}" for row in own[:NAMED])
        parts.append(f"{flaw}: {count} ({first}{'; …' if count > NAMED else ''})")
    return f"{len(bad)} of {of} samples cannot be trained on. {'. '.join(parts)}"


def refused(bad: Sequence[BadRow], of: int, *, listed: str = "") -> GensegError:
    """The error for a set with such samples, where the settings do not say what to do with them."""
    cures = ["--set train.bad_rows=skip leaves them out"] if len(bad) < of else []
    if any(row.flaw is Flaw.LONG for row in bad):
        cures.append("a larger train.max_prompt_tokens or a smaller model.max_pixels makes room for long prompts")
    if any(row.flaw is not Flaw.LONG for row in bad):
        cures.append("`genseg prep` makes the set anew")
    where = f"; all of them: {listed}" if listed else ""
    return GensegError(told(bad, of), hint=f"{', '.join(cures)}{where}")


def admitted(
    bad: Sequence[BadRow], of: int, *, skip: bool, listed: str = "", tell: Callable[[str], object] = lambda _: None
) -> frozenset[int]:
    """Numbers of the samples to leave out; how many is told.

    Raises:
        GensegError: there are some and they are not to be skipped, or nothing would be left.
    """
    if bad and (not skip or len(bad) == of):
        raise refused(bad, of, listed=listed)
    if bad:
        tell(f"left out: {told(bad, of)}")
    return frozenset(row.number for row in bad)
