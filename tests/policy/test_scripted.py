"""Answers from a file: which line answers which question."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from gensegcli.errors import ExitCode, GensegError
from gensegcli.policy.base import QuestionsFailedError
from gensegcli.policy.scripted import ScriptedPolicy
from gensegcli.records import Completion, FinishReason, Question, Sampling

if TYPE_CHECKING:
    from pathlib import Path

GREEDY = Sampling()


def question(**names: str) -> Question:
    return Question(Image.new("RGB", (8, 8)), "prompt", **names)


@pytest.fixture
def script(tmp_path: Path):
    def make(*lines: object) -> ScriptedPolicy:
        file = tmp_path / "answers.jsonl"
        file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return ScriptedPolicy(file)

    return make


def texts(policy: ScriptedPolicy, *asked: Question, n: int = 1) -> list[list[str]]:
    return [[answer.text for answer in answers] for answers in policy.generate(asked, Sampling(temperature=1.0, n=n))]


def test_the_line_that_says_most_wins(script) -> None:
    policy = script(
        {"query": "red dog", "text": "any picture"},
        {"query": "red dog", "image": "a.jpg", "text": "picture a"},
        {"query": "red dog", "image": "a.jpg", "id": "7", "text": "number seven"},
        {"image": "b.jpg", "text": "anything in b"},
        {"id": "9", "text": "number nine"},
    )
    assert texts(
        policy,
        question(query="red dog", source="c.jpg"),
        question(query="red dog", source="photos/a.jpg"),
        question(query="red dog", source="a.jpg", id="7"),
        question(query="cat", source="b.jpg"),
        question(query="cat", source="z.jpg", id="9"),
    ) == [["any picture"], ["picture a"], ["number seven"], ["anything in b"], ["number nine"]]


def test_queries_are_compared_after_normalisation(script) -> None:
    policy = script({"query": '"Red  Dog."', "text": "found"})
    assert texts(policy, question(query="red dog?")) == [["found"]]


def test_nameless_lines_answer_in_order_across_calls(script) -> None:
    policy = script({"text": "one"}, {"query": "x", "text": "named"}, {"text": "two"}, "", {"text": "three"})
    assert texts(policy, question(query="a"), question(query="x")) == [["one"], ["named"]]
    assert texts(policy, question(query="b"), question(query="c")) == [["two"], ["three"]]


def test_several_lines_are_several_completions(script) -> None:
    policy = script({"query": "x", "text": "one"}, {"query": "x", "text": "two", "finish": "length"})
    assert policy.generate([question(query="x")], Sampling(temperature=1.0, n=2)) == [
        [Completion("one"), Completion("two", FinishReason.LENGTH)]
    ]
    assert texts(policy, question(query="x")) == [["one"]]


def test_a_question_without_an_answer_fails_alone(script) -> None:
    policy = script({"query": "x", "text": "one"})
    with pytest.raises(QuestionsFailedError, match=r"0 of 1 answers for query 'y' on p\.jpg") as caught:
        policy.generate([question(query="x"), question(query="y", source="p.jpg")], GREEDY)
    assert caught.value.outcomes[0] == [Completion("one")]
    assert caught.value.code is ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "answers.jsonl:2: not JSON"),
        ("[1]", 'answers.jsonl:2: expected an object with "text"'),
        ('{"query": "x"}', 'expected an object with "text"'),
        ("7", 'answers.jsonl:2: expected an object with "text", found a number'),
        ('{"query": 3, "text": "x"}', "answers.jsonl:2: query must be a text, found 3"),
        ('{"image": ["a.jpg"], "text": "x"}', "answers.jsonl:2: image must be a text, found ['a.jpg']"),
        ('{"id": 1.5, "text": "x"}', "answers.jsonl:2: id must be a text, found 1.5"),
        ('{"id": true, "text": "x"}', "answers.jsonl:2: id must be a text, found True"),
        ('{"id": 1e999, "text": "x"}', "answers.jsonl:2: id must be a text, found inf"),
        ('{"text": "x", "finish": "maybe"}', "answers.jsonl:2: finish is stop or length, found 'maybe'"),
        ('{"text": "x", "finish": []}', "answers.jsonl:2: finish is stop or length, found []"),
        ('{"text": "x", "text": "y"}', "answers.jsonl:2: the key 'text' stands twice"),
        ('{"text": "\\ud800"}', "answers.jsonl:2: holds text that is not Unicode (a lone surrogate)"),
        ('{"text": ' + "[" * 3000, "answers.jsonl:2: "),
        ('{"text": "x", "n": ' + "9" * 5000, "answers.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_is_named(script, line: str, complaint: str) -> None:
    with pytest.raises(GensegError, match=re.escape(complaint)):
        script({"text": "good"}, line)


def test_line_separators_inside_a_text_end_no_line_and_a_mark_before_the_first_is_none_of_it(tmp_path: Path) -> None:
    """U+2028, U+2029, U+0085 and form feed may stand in JSON as they are: only a line feed ends a line."""
    said = ["a\u2028b", "c\u0085d", "e\u2029f"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in said]
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

    assert texts(ScriptedPolicy(file), *[question(query="x")] * 3) == [[text] for text in said]


@pytest.mark.parametrize("number", ["785", "785.0", '"785"'])
def test_ids_that_are_whole_numbers_are_texts(script, number: str) -> None:
    assert texts(script(f'{{"id": {number}, "text": "found"}}'), question(id="785", query="x")) == [["found"]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match=r"nothing\.jsonl: cannot be read \(No such file"):
        ScriptedPolicy(tmp_path / "nothing.jsonl")


def test_the_revision_follows_the_content(script) -> None:
    first = script({"text": "one"}).revision
    assert first is not None
    assert first.startswith("sha256:")
    assert script({"text": "two"}).revision != first
