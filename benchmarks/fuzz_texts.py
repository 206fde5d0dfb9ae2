"""Read texts that models might write, and worse, with every dialect, strictly and tolerantly, and count what must not be.

Every text begins as a completion of some dialect, or as JSON of about its shape, and is then changed where it hurts:
brackets inside strings, control tokens, keys that stand repeatedly, nesting, other spellings of JSON, odd numbers and
characters, cuts at any place, splices with another text. Faults are: an exception; a coordinate off the grid or a box
without area; a strict answer that tolerant reading does not share (fractions of the picture aside); a strict answer
with dropped or clipped parts; a control token at the end that changes what a text says; an abstention out of a text
that has no word of one; a reading of more than `--slow` seconds. Exits with 1 if there is one.

    python benchmarks/fuzz_texts.py --count 1000000 [--seed 0] [--log FILE]

Texts come in chunks of 10,000, each from a seed of its own. With --log, chunks that the file has are not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

from gensegcli.dialects import DIALECTS
from gensegcli.records import Answer, FinishReason, GridBox, GridPoint, Instance, Refusal, RefusalKind, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gensegcli.dialects.base import Dialect

CHUNK = 10_000
EXAMPLES = 20
"""Faulty texts that are kept."""

RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a reader might raise. Anything else ends the run with its traceback."""

FRAMES = (None, None, Size(840, 840), Size(840, 420), Size(28, 2000), Size(1, 1))
FINISHES = (None, FinishReason.STOP, FinishReason.LENGTH)
CONTROL = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<|eot_id|>\n",
    " <|end|>",
    "<end_of_turn>",
    "<|im_start|>assistant\n",
)
KEYS = (
    *("bbox_2d", "bbox", "point_1", "point_2", "points_1", "points_2", "point_2d", "negative_points", "no_target"),
    *("label", "objects", "score", "box", "]", '["', "{'a': [", "", "键", "a\\nb"),
)
BRACKETS = ("[", "]", "{", "}", "[[", "]]", "}{", "][", '\\"[', "[{", "}]", "(", ")", "［", "｝", "'", "“", '\\\\"]')
ODD = (
    *("\u2028", "\u0085", "\x00", "\ud800", "\ufeff", "\u202e", "\u00a0", "١", "１", "“", "”", "，", "：", "【", "】"),
    *("'", '"', "\\", "`", "```", "```json\n", "\n", "\t", ",", ":", "[", "]", "{", "}", "(", ")", "-", "+", ".", "e9"),
    *("true", "True", "None", "null", "NaN", "Infinity", "-0", "0x1f", "1_0", "<think>", "</think>", "<answer>"),
    *("</answer>", "<bbox>", "</bbox>", "<points>", "</points>", "<labels>", "</labels>", '{"no_target": true}', "[]"),
)
NUMBERS = (
    *(
        "0",
        "1",
        "-1",
        "-20",
        "-21",
        "1000",
        "1001",
        "1020",
        "1021",
        "0.5",
        "1.0",
        "999.9999999999999",
        "5e-324",
        "1e999",
    ),
    *(
        "-0.0",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 19,
        "9" * 400,
        "0" * 30 + "1",
        '"12"',
        '"１２"',
        "true",
        "null",
        "[]",
    ),
)
WIDE = str.maketrans({",": "，", ":": "：", "[": "［", "]": "］", "{": "｛", "}": "｝", '"': "“"})
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_PAIR = re.compile(r'"[^"\\]{0,20}": ?(?:\[[^\[\]]*\]|true|"[^"]*"|\d+)')
_VALUE = re.compile(r'(?<=: )(?:\[[^\[\]]*\]|true|"[^"]*")|\[\{|(?<=, )\d+|\d+(?=[,\]])')
_STRING = re.compile(r'"[^"\\]*"')
_TOKEN = re.compile(r'[\[\]{}",:]')


# ---------------------------------------------------------------- texts


def texts(draw: random.Random) -> Iterator[str]:
    """Texts without end."""
    earlier = ["", "<think>", '{"no_target": true}']
    while True:
        text = draw.choice((_completion, _completion, _loose_json))(draw)
        for _ in range(draw.choice((0, 0, 1, 1, 2, 3, 5))):
            change = draw.choice(CHANGES)
            text = change(text, draw)
        if draw.random() < 0.15:
            other = draw.choice(earlier)
            text = text[: draw.randint(0, len(text))] + other[draw.randint(0, len(other)) :]
        if len(text) < 4000:
            earlier[draw.randrange(len(earlier))] = text
            if len(earlier) < 50:
                earlier.append(text)
        yield text


def _coordinate(draw: random.Random) -> float:
    return float(draw.randint(0, 1000)) if draw.random() < 0.9 else draw.uniform(0, 1000)


def _instance(draw: random.Random) -> Instance:
    across, down = (sorted((_coordinate(draw), _coordinate(draw))) for _ in range(2))

    def points(count: int) -> tuple[GridPoint, ...]:
        return tuple(GridPoint(draw.uniform(*across) // 1, draw.uniform(*down) // 1) for _ in range(count))

    return Instance(
        GridBox(across[0], down[0], across[1], down[1]),
        points(draw.choice((2, 2, 2, 1, 0))),
        points(draw.choice((0, 0, 2))),
    )


def _completion(draw: random.Random) -> str:
    dialect = draw.choice(list(DIALECTS.values()))
    most = 1 if dialect.name == "seg-zero" else draw.choice((0, 1, 1, 2, 3, 6))
    answer = Answer(
        tuple(_instance(draw) for _ in range(most)), draw.choice((None, "a dog", "in [brackets] {and} 'more'"))
    )
    text = dialect.render(answer, frame=draw.choice(FRAMES[:4]))
    if draw.random() < 0.3:  # as a model without the tags writes it
        text = re.sub(r"</?answer>|<think>.*?</think>", "", text, flags=re.DOTALL)
    return text


def _loose_json(draw: random.Random) -> str:
    body = json.dumps(_value(draw, 0), ensure_ascii=draw.random() < 0.5)
    return draw.choice(
        ("{}", "<answer>{}</answer>", "<think>a</think><answer>{}</answer>", "<think>a</think>{}")
    ).replace("{}", body)


def _value(draw: random.Random, depth: int) -> Any:
    kind = draw.random()
    if depth > 5 or kind < 0.25:
        return draw.choice(
            (0, 7, 500, 0.5, True, None, "dog", "a [b] {c}", draw.choice(BRACKETS) * draw.randint(1, 20))
        )
    if kind < 0.5:
        return [draw.randint(-30, 1030) for _ in range(draw.choice((2, 4, 4, 4, 3)))]
    if kind < 0.7:
        return [_value(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    return {draw.choice(KEYS): _value(draw, depth + 1) for _ in range(draw.randint(0, 4))}


# ---------------------------------------------------------------- changes


def _at(text: str, draw: random.Random) -> int:
    return draw.randint(0, len(text))


def _insert(text: str, at: int, piece: str) -> str:
    return text[:at] + piece + text[at:]


def _one_of(pattern: re.Pattern[str], text: str, draw: random.Random, change: Callable[[str], str]) -> str:
    """The text with one match of a pattern changed; unchanged where there is none."""
    found = list(pattern.finditer(text))
    if not found:
        return text
    chosen = draw.choice(found)
    return text[: chosen.start()] + change(chosen.group()) + text[chosen.end() :]


def cut(text: str, draw: random.Random) -> str:
    return text[: _at(text, draw)]


def cut_out(text: str, draw: random.Random) -> str:
    start = _at(text, draw)
    return text[:start] + text[start + draw.choice((1, 1, 2, 10, 40)) :]


def double(text: str, draw: random.Random) -> str:
    start = _at(text, draw)
    piece = text[start : start + draw.choice((1, 2, 10, 40, 200))]
    return _insert(text, start, piece * draw.choice((1, 1, 2, 30)))


def odd_piece(text: str, draw: random.Random) -> str:
    return _insert(text, _at(text, draw), draw.choice(ODD))


def odd_number(text: str, draw: random.Random) -> str:
    return _one_of(_NUMBER, text, draw, lambda _: draw.choice(NUMBERS))


def odd_numbers(text: str, draw: random.Random) -> str:
    scale = draw.choice((0.001, 1.02, 1.021, -0.02, 0.0))
    return _NUMBER.sub(lambda found: str(float(found.group()) * scale), text)


def brackets_in_a_string(text: str, draw: random.Random) -> str:
    """Closing ones in a string may pay for opening ones behind it, where a guard counts both."""
    count = draw.choice((1, 3, 9, 9, 40, 3000))
    inside, outside = draw.choice((("]", "["), ("}", '{"a":'), ("[", "]"), ("{", "}"), (draw.choice(BRACKETS), "[")))
    inside, outside = inside * count, outside * draw.choice((count, count, 0))
    quote = draw.choice('""\'')
    escaped = draw.choice(("", "", "\\" + quote))
    if draw.random() < 0.4:
        return _one_of(_STRING, text, draw, lambda key: f"{quote}{escaped}{inside}{quote}: {outside}{key}")
    return _one_of(_VALUE, text, draw, lambda value: f"[{quote}{escaped}{inside}{quote}, {outside}{value}")


def further_key(text: str, draw: random.Random) -> str:
    key, value = json.dumps(draw.choice(KEYS)), json.dumps(_value(draw, 4))
    return text.replace("{", f"{{{key}: {value}, ", draw.choice((1, 1, -1)))


def repeated_key(text: str, draw: random.Random) -> str:
    return _one_of(_PAIR, text, draw, lambda pair: f"{pair}, {_NUMBER.sub(lambda _: str(draw.randint(0, 1000)), pair)}")


def merged_objects(text: str, draw: random.Random) -> str:
    return text.replace("}, {", ", ", draw.choice((1, -1)))


def nested(text: str, draw: random.Random) -> str:
    opening, closing = draw.choice((("[", "]"), ('{"objects": ', "}"), ('{"a": [', "]}"), ("(", ")"), ("{", "}")))
    count = draw.choice((1, 1, 2, 8, 9, 30, 2000))
    start, stop = sorted((_at(text, draw), _at(text, draw)))
    if draw.random() < 0.6 and "<answer>" in text:
        start, stop = text.index("<answer>") + 8, text.find("</answer>") % (len(text) + 1)
    return text[:start] + opening * count + text[start:stop] + closing * draw.choice((count, count, 0, 1)) + text[stop:]


def control_tokens(text: str, draw: random.Random) -> str:
    at = len(text) if draw.random() < 0.6 else _at(text, draw)
    return _insert(text, at, "".join(draw.choices(CONTROL, k=draw.choice((1, 1, 2, 5)))))


def python_literal(text: str, draw: random.Random) -> str:
    text = text.replace("true", "True").replace("null", "None")
    return text.replace('"', "'") if draw.random() < 0.8 else text.replace("[", "(").replace("]", ")")


def full_width(text: str, draw: random.Random) -> str:
    start, stop = sorted((_at(text, draw), _at(text, draw)))
    return text[:start] + text[start:stop].translate(WIDE) + text[stop:]


def less_a_mark(text: str, draw: random.Random) -> str:
    return _one_of(_TOKEN, text, draw, lambda _: draw.choice(("", "", '"', "]", "}", ",", ",,")))


def in_prose(text: str, draw: random.Random) -> str:
    before = draw.choice(("Here it is: ", "I must not say ", "```json\n", "The dog's box:\n", '"', "<think>so "))
    return before + text + draw.choice(("", ".", "\n```", "\n```\nDone, it's there.", " or {", '"'))


CHANGES = (
    *(cut, cut, cut_out, double, odd_piece, odd_number, odd_numbers, brackets_in_a_string, brackets_in_a_string),
    *(
        further_key,
        repeated_key,
        merged_objects,
        nested,
        control_tokens,
        python_literal,
        full_width,
        less_a_mark,
        in_prose,
    ),
)


# ---------------------------------------------------------------- readings


@dataclass
class Tally:
    """What came of the readings."""

    texts: int = 0
    readings: Counter[str] = field(default_factory=Counter)
    """By reading (`strict`, `tolerant`) and outcome: `found`, `nothing there`, or the kind of refusal."""
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """CPU seconds of one reading."""

    def fault(self, what: str, name: str, text: str) -> None:
        """Count a fault, and keep its text if few were kept."""
        self.faults[what] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{what}: {name}: {text[:2000]!a}")

    def add(self, other: Tally) -> None:
        """Take in what another has."""
        self.texts += other.texts
        self.readings += other.readings
        self.faults += other.faults
        self.examples = (self.examples + other.examples)[:EXAMPLES]
        self.slowest = max(self.slowest, other.slowest)


def read_all(text: str, frame: Size | None, finish: FinishReason | None, end: str, tally: Tally, slow: float) -> None:
    """Read a text in every way, and count what must not be.

    Args:
        text: what is read.
        frame: as readers take it.
        finish: as readers take it.
        end: control tokens that must not change its meaning; none: not looked at.
        tally: where it is counted.
        slow: CPU seconds beyond which a reading is a fault.
    """
    tally.texts += 1
    for name, dialect in DIALECTS.items():
        strict = _read(dialect, text, frame, finish, True, tally, slow)
        tolerant = _read(dialect, text, frame, finish, False, tally, slow)
        ended = _read(dialect, text + end, frame, finish, False, tally, slow) if end else tolerant
        if strict is None or tolerant is None or ended is None:
            continue
        for reading, found in (("strict", strict), ("tolerant", tolerant)):
            tally.readings[f"{reading} {_outcome(found)}"] += 1
            for what in _impossible(found):
                tally.fault(f"{reading}: {what}", name, text)
        if ended != tolerant:
            tally.fault("a control token changes the meaning", name, text + end)
        for what in _contradictions(strict, tolerant, text):
            tally.fault(what, name, text)


def _read(
    dialect: Dialect,
    text: str,
    frame: Size | None,
    finish: FinishReason | None,
    strict: bool,
    tally: Tally,
    slow: float,
) -> Answer | Refusal | None:
    start = process_time()
    try:
        found = dialect.read(text, frame=frame, finish=finish, strict=strict)
    except RAISED as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.fault(f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}", dialect.name, text)
        return None
    seconds = process_time() - start
    tally.slowest = max(tally.slowest, seconds)
    if seconds > slow:
        tally.fault("slow", dialect.name, text)
    return found


def _outcome(found: Answer | Refusal) -> str:
    if isinstance(found, Refusal):
        return str(found.kind)
    return "nothing there" if found.no_target else "found"


def _impossible(found: Answer | Refusal) -> Iterator[str]:
    if isinstance(found, Refusal):
        if len(found.detail) > 250 or not found.detail.isascii() or not found.detail.isprintable():
            yield "a detail that is long or not printable"
        return
    if len(found.instances) > 120:
        yield "more than 120 instances"
    for one in found.instances:
        if not (0 <= one.box.x1 < one.box.x2 <= 1000 and 0 <= one.box.y1 < one.box.y2 <= 1000):
            yield "a box off the grid or without area"
        if not all(0 <= value <= 1000 for point in one.points + one.negatives for value in point):
            yield "a point off the grid"
    if any(count < 1 for count in found.dropped.values()) or found.clipped < 0:
        yield "a count below one"


def _contradictions(strict: Answer | Refusal, tolerant: Answer | Refusal, text: str) -> Iterator[str]:
    if isinstance(strict, Answer):
        fractions = isinstance(tolerant, Refusal) and tolerant.kind is RefusalKind.FRACTIONS
        if strict != tolerant and not fractions:
            yield "strict and tolerant reading contradict each other"
        if strict.dropped or strict.clipped:
            yield "strict reading drops or clips"
    if isinstance(tolerant, Answer) and tolerant.no_target:
        if tolerant.dropped:
            yield "an abstention with dropped parts"
        if "no_target" not in text and not re.search(r"[\[(［【（]\s*[\])］】）]", text):
            yield "an abstention out of nothing"


# ---------------------------------------------------------------- the run


def run_chunk(seed: int, number: int, count: int, slow: float) -> Tally:
    """Read the texts of one chunk."""
    draw = random.Random(f"{seed}/{number}")
    tally = Tally()
    for text, _ in zip(texts(draw), range(count), strict=False):
        ends = draw.choices(CONTROL, k=draw.choice((0, 0, 1, 2)))
        read_all(text, draw.choice(FRAMES), draw.choice(FINISHES), "".join(ends), tally, slow)
    return tally


def table(tally: Tally) -> str:
    """The figures, a line each."""
    lines = [f"texts                 {tally.texts:>12,} for each of {len(DIALECTS)} dialects, strictly and tolerantly"]
    lines += [f"{name:<22}{count:>12,}" for name, count in sorted(tally.readings.items())]
    lines += [
        f"slowest reading       {tally.slowest:>12.3f} s",
        f"faults                {sum(tally.faults.values()):>12,}",
    ]
    lines += [f"  {count:>6}  {what}" for what, count in tally.faults.most_common()]
    return "\n".join([*lines, *tally.examples])


def main(arguments: list[str] | None = None) -> int:
    """Read texts and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=CHUNK, help="texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=5.0, help="CPU seconds that a reading may take")
    parser.add_argument("--log", type=Path, help="JSONL file of the chunks that are done")
    options = parser.parse_args(arguments)
    total = Tally()
    done = _logged(options.log, options.seed)
    for number, start in enumerate(range(0, options.count, CHUNK)):
        size = min(CHUNK, options.count - start)
        tally = done.get((number, size)) or run_chunk(options.seed, number, size, options.slow)
        if options.log is not None and (number, size) not in done:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"seed": options.seed, "chunk": number, "size": size, **vars(tally)}) + "\n")
        total.add(tally)
    sys.stdout.write(table(total) + "\n")
    return int(bool(total.faults))


def _logged(path: Path | None, seed: int) -> dict[tuple[int, int], Tally]:
    done: dict[tuple[int, int], Tally] = {}
    if path is None or not path.is_file():
        return done
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.pop("seed") == seed:
            place = row.pop("chunk"), row.pop("size")
            done[place] = Tally(row.pop("texts"), Counter(row.pop("readings")), Counter(row.pop("faults")), **row)
    return done


if __name__ == "__main__":
    sys.exit(main())
