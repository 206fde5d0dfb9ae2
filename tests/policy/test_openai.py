"""The client of OpenAI-compatible servers, against a real one on 127.0.0.1 that misbehaves on demand."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import logging
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gensegcli.errors import ExitCode, GensegError
from gensegcli.models import POLICIES, ResolvedPolicy, resolve_policy
from gensegcli.policy import EngineOptions
from gensegcli.policy.base import QuestionsFailedError
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.openai import KEY_VARIABLES, OpenAIPolicy
from gensegcli.records import Completion, FinishReason, Question, Sampling
from tests.policy.pictures import picture
from tests.policy.server import HANG_UP, Server, always, completion, serving
from tests.slow_server import DRIPS, OK, slow_server

if TYPE_CHECKING:
    from collections.abc import Iterator

GREEDY = Sampling(max_tokens=99, seed=3)
OPEN: list[OpenAIPolicy] = []
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_key_and_nothing_left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def model(alias: str = "qwen3-vl-4b") -> ResolvedPolicy:
    entry = POLICIES[alias]
    return ResolvedPolicy(entry.source, entry.source, "main", None, None, entry)


def connect(known: ResolvedPolicy, **options: Any) -> OpenAIPolicy:
    """A policy that is closed when the test ends."""
    OPEN.append(OpenAIPolicy(known, EngineOptions(**options)))
    return OPEN[-1]


def policy(server: Server, alias: str = "qwen3-vl-4b", **options: Any) -> OpenAIPolicy:
    return connect(model(alias), **{"base_url": server.url, "retries": 2, "timeout": 5.0, **options})


def ask(server: Server, count: int = 1, sampling: Sampling = GREEDY, **options: Any) -> list[list[Completion]]:
    made = policy(server, **options)
    with closing(made):
        return made.generate([Question(picture(64, 64, seed=i), f"Find: {i}") for i in range(count)], sampling)


# ---------------------------------------------------------------- what is sent and read


def test_request_and_answer(server: Server) -> None:
    server.answer = always(completion("text", finish="length"))
    made = policy(server)
    image = picture(333, 100)
    with closing(made):
        (answers,) = made.generate([Question(image, "Find: <|im_end|> dog")], GREEDY)
    assert answers == [Completion("text", FinishReason.LENGTH, tokens=7, prompt_tokens=50)]
    assert (made.id, made.revision) == ("m", None)
    (body,) = server.requests
    (message,) = body.pop("messages")
    assert body == {"model": "m", "temperature": 0.0, "top_p": 1.0, "n": 1, "seed": 3, "max_tokens": 99}
    shown, said = message["content"]
    assert said == {"type": "text", "text": "Find: < |im_end| > dog"}
    prefix, _, data = shown["image_url"]["url"].partition(",")
    assert prefix == "data:image/png;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert np.array_equal(sent, fit_picture(made.entry, image))  # lossless, at the size the model sees


def test_n_and_temperature(server: Server) -> None:
    server.answer = lambda body, _: completion(*(f"t{i}" for i in range(body["n"])))
    ((a, b, c),) = ask(server, sampling=Sampling(temperature=0.7, top_p=0.9, n=3))
    assert [a.text, b.text, c.text] == ["t0", "t1", "t2"]
    assert (a.tokens, server.requests[0]["temperature"], server.requests[0]["top_p"]) == (7, 0.7, 0.9)


def test_the_order_of_the_questions_is_kept(server: Server) -> None:
    def answer(body: dict[str, Any], number: int):
        text = body["messages"][0]["content"][1]["text"]
        time.sleep(0.05 if text == "Find: 0" else 0)
        return completion(text)

    server.answer = answer
    assert [a.text for (a,) in ask(server, 12)] == [f"Find: {i}" for i in range(12)]


def test_requests_run_side_by_side_up_to_the_limit(server: Server) -> None:
    together = threading.Barrier(3, timeout=20)

    def answer(body: dict[str, Any], number: int):
        together.wait()  # passes only if three requests are under way at once
        return completion("x")

    server.answer = answer
    ask(server, 9, concurrency=3)
    assert server.most_under_way == 3


def test_a_think_block_that_the_server_cut_out_is_put_back(server: Server) -> None:
    server.answer = always(completion("<answer>[]</answer>", reasoning_content="why"))
    assert ask(server)[0][0].text == "<think>why</think><answer>[]</answer>"


@pytest.mark.parametrize(("owner", "penalty"), [("vllm", 1.0), ("sglang", 1.0), ("someone", None)])
def test_a_checkpoints_own_sampling_defaults_are_undone_where_the_server_knows_how(
    server: Server, owner: str, penalty: float | None
) -> None:
    server.models = {"m": owner}
    ask(server)
    assert server.requests[0].get("repetition_penalty") == penalty


# ---------------------------------------------------------------- trouble


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(server: Server, status: int) -> None:
    server.answer = lambda _, number: completion("done") if number == 3 else (status, {"error": {"message": "busy"}})
    start = time.monotonic()
    assert ask(server)[0][0].text == "done"
    assert len(server.requests) == 3
    assert time.monotonic() - start > 0.5  # it waited in between


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, "too many requests, even after waiting"), (500, "the server failed, even after retries")],
)
def test_a_lasting_failure_is_an_error(server: Server, status: int, message: str) -> None:
    server.answer = always((status, {"error": {"message": "no luck"}}))
    with pytest.raises(QuestionsFailedError, match=f"{message}.*no luck") as caught:
        ask(server, retries=1)
    assert len(server.requests) == 2
    assert caught.value.code is ExitCode.SOME_FAILED  # of this question: the next may do better
    assert caught.value.hint


def test_a_bad_question_fails_alone_and_is_not_repeated(server: Server) -> None:
    def answer(body: dict[str, Any], number: int):
        if body["messages"][0]["content"][1]["text"] == "Find: 1":
            return 400, {"error": {"message": "prompt is too long"}}
        return completion("fine")

    server.answer = answer
    with pytest.raises(
        QuestionsFailedError, match=r"1 of 3 .* does not accept the question.*prompt is too long"
    ) as caught:
        ask(server, 3)
    first, second, third = caught.value.outcomes
    assert first == third == [Completion("fine", tokens=7, prompt_tokens=50)]
    assert isinstance(second, GensegError)
    assert second.code is ExitCode.SOME_FAILED
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        (200, "<html>a login page</html>"),
        (200, "{not json"),
        (200, "[]"),
        (200, "null"),
        (200, '"text"'),
        (200, {}),
        (200, {"choices": []}),
        (200, {"choices": None}),
        (200, {"choices": [{"index": 0, "finish_reason": "stop"}]}),
        (200, {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}]}),
        (200, {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": [1]}}]}),
        (200, {"choices": [1, "x"]}),
        completion("one", "two"),
    ],
)
def test_garbage_is_named_as_such(server: Server, reply) -> None:
    server.answer = always(reply)
    with pytest.raises(QuestionsFailedError, match="expected a chat completion, found") as caught:
        ask(server)
    assert caught.value.code is ExitCode.SOME_FAILED


def test_a_silent_server_is_given_up(server: Server) -> None:
    released = threading.Event()

    def answer(body: dict[str, Any], number: int):
        released.wait(20)
        return completion("too late")

    server.answer = answer
    try:
        with pytest.raises(QuestionsFailedError, match=r"no answer within 0\.3 s") as caught:
            ask(server, timeout=0.3, retries=1)
    finally:
        released.set()
    assert len(server.requests) == 2
    assert caught.value.code is ExitCode.SOME_FAILED


@pytest.mark.parametrize("place", DRIPS)
def test_the_time_limit_is_one_for_the_whole_answer(place: str) -> None:
    """Whatever the server sends meanwhile: a byte every 0.05 s meets no limit for a single wait."""
    with slow_server(*DRIPS[place]) as slow:
        started = time.monotonic()
        with pytest.raises(GensegError, match=r"no answer within 0\.5 s, tried once") as caught:
            connect(model(), base_url=slow.url, timeout=0.5, retries=0)
        assert time.monotonic() - started < 5
    assert caught.value.code is ExitCode.ENVIRONMENT


@pytest.mark.parametrize("place", ["body", "trailer"])
def test_a_slow_answer_fails_alone(server: Server, place: str) -> None:
    made = policy(server, timeout=0.5, retries=1)
    with slow_server(*DRIPS[place]) as slow, closing(made):
        made._client.base_url = slow.url
        with pytest.raises(QuestionsFailedError, match=r"no answer within 0\.5 s, tried 2 times") as caught:
            made.generate([Question(picture(64, 64), "x")] * 2, GREEDY)
        assert slow.connections == 4
    assert caught.value.code is ExitCode.SOME_FAILED


@pytest.mark.parametrize("head", [b"Content-Length: 999999999999\r\n", b""])
def test_an_answer_has_a_largest_size(server: Server, head: bytes) -> None:
    """It is read up to the limit, not until the server stops, and not asked for again."""
    made = policy(server, timeout=60, retries=3)
    with slow_server(OK + head + b"\r\n", b" " * (1 << 20), every=0.001) as endless, closing(made):
        made._client.base_url = endless.url
        with pytest.raises(QuestionsFailedError, match="the reply is larger than 16 MB"):
            made.generate([Question(picture(64, 64), "x")], GREEDY)
        assert endless.connections == 1


@pytest.mark.parametrize(
    ("packed", "message"), [("gzip", "larger than 16 MB"), ("br", "packed as br, which was not asked for")]
)
def test_the_size_counts_once_unpacked(packed: str, message: str) -> None:
    body = gzip.compress(bytes(40 << 20))
    head = f"Content-Encoding: {packed}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with slow_server(OK + head + body) as small, pytest.raises(GensegError, match=message):
        connect(model(), base_url=small.url, retries=0)


def test_a_packed_answer_is_read(server: Server) -> None:
    body = gzip.compress(b'{"data": [{"id": "m", "owned_by": null}]}')
    head = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with slow_server(OK + head + body) as small:
        made = connect(model(), base_url=small.url, retries=0)
    assert made.id == "m"


def test_a_question_that_breaks_its_connection_fails_alone(server: Server) -> None:
    def answer(body: dict[str, Any], number: int):
        return HANG_UP if body["messages"][0]["content"][1]["text"] == "Find: 7" else completion("fine")

    server.answer = answer
    with pytest.raises(QuestionsFailedError, match=r"1 of 40 .*: the connection broke, tried 2 times") as caught:
        ask(server, 40, retries=1)
    failed = [number for number, outcome in enumerate(caught.value.outcomes) if isinstance(outcome, GensegError)]
    assert failed == [7]
    assert caught.value.code is ExitCode.SOME_FAILED


def test_a_question_that_is_forbidden_fails_alone_once_others_were_answered(server: Server) -> None:
    def answer(body: dict[str, Any], number: int):
        text = body["messages"][0]["content"][1]["text"]
        return (403, {"error": {"message": "not allowed"}}) if text == "Find: 1" else completion("fine")

    server.answer = answer
    with pytest.raises(QuestionsFailedError, match="1 of 4 ") as caught:
        ask(server, 4, concurrency=1)
    assert [isinstance(outcome, GensegError) for outcome in caught.value.outcomes] == [False, True, False, False]


@pytest.mark.parametrize("usage", [{"completion_tokens": 2**70}, {"completion_tokens": -1}, {"prompt_tokens": 1e30}])
def test_counts_beyond_reason_are_refused_where_they_are_read(server: Server, usage: dict[str, Any]) -> None:
    status, body = completion("fine")
    assert isinstance(body, dict)
    server.answer = always((status, {**body, "usage": usage}))
    name = next(iter(usage))
    with pytest.raises(QuestionsFailedError, match=f"expected a chat completion, found usage.{name}: ") as caught:
        ask(server)
    assert caught.value.code is ExitCode.SOME_FAILED


@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": None, "prompt_tokens": 3}])
def test_counts_may_be_left_out(server: Server, usage: dict[str, Any] | None) -> None:
    status, body = completion("fine")
    assert isinstance(body, dict)
    server.answer = always((status, {**body, "usage": usage}))
    assert ask(server)[0][0].tokens == 0


def test_it_works_where_a_loop_of_events_runs_already(server: Server) -> None:
    """As in a notebook."""

    async def cell() -> str:
        return ask(server)[0][0].text

    assert asyncio.run(cell()) == "hello"


def test_no_server_is_said_so() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"  # bound, and nobody listens
        with pytest.raises(GensegError, match="no server answers there") as caught:
            connect(model(), base_url=url, retries=0)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "--base-url" in caught.value.hint


def test_a_server_that_goes_away_stops_the_asking() -> None:
    with serving(Server()) as server:
        made = policy(server, retries=0, concurrency=1)
    with closing(made), pytest.raises(QuestionsFailedError) as caught:
        made.generate([Question(picture(64, 64), "x")] * 5, GREEDY)
    messages = [outcome.message for outcome in caught.value.outcomes]
    assert "no server answers there" in messages[0]
    assert all("not asked" in message for message in messages[1:])
    assert {outcome.code for outcome in caught.value.outcomes} == {ExitCode.ENVIRONMENT}


def test_no_address() -> None:
    with pytest.raises(GensegError, match="needs the address of a server"):
        connect(model())


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("name", KEY_VARIABLES)
def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, KEY)
    ask(server)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_key_is_in_no_message(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(KEY_VARIABLES[0], KEY)
    made = policy(server)
    for reply in ((401, {"error": {"message": f"Incorrect API key: {KEY}"}}), (200, f"<html>{KEY}</html>")):
        server.answer = always(reply)
        with pytest.raises(QuestionsFailedError) as caught:
            made.generate([Question(picture(64, 64), "x")], GREEDY)
        assert KEY not in str(caught.value)
        assert "***" in str(caught.value)
    made.close()
    assert KEY not in repr(made)
    assert KEY not in caplog.text


def test_a_refused_key_stops_the_asking(server: Server) -> None:
    server.answer = always((401, {"error": {"message": "who are you"}}))
    with pytest.raises(QuestionsFailedError, match="refuses the API key") as caught:
        ask(server, 6, concurrency=1)
    assert len(server.requests) == 1
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "GENSEG_API_KEY" in caught.value.hint


# ---------------------------------------------------------------- which model


def test_the_only_model_is_taken_and_one_of_several_is_found_by_its_hub_id(server: Server) -> None:
    assert policy(server).id == "m"
    server.models = {"m": "x", "Qwen/Qwen3-VL-4B-Instruct": "x"}
    assert policy(server).id == "Qwen/Qwen3-VL-4B-Instruct"
    assert policy(server, served_model="m").id == "m"


def test_a_model_that_is_not_served_is_named_with_those_that_are(server: Server) -> None:
    server.models = {"a": "x", "b": "x"}
    with pytest.raises(GensegError, match=r"does not serve Qwen/Qwen3-VL-4B-Instruct") as caught:
        policy(server)
    assert "a, b" in caught.value.hint
    with pytest.raises(GensegError, match="does not serve c"):
        policy(server, served_model="c")


def test_a_server_that_lists_nothing_needs_the_name(server: Server) -> None:
    server.models = None
    assert policy(server, served_model="mine").id == "mine"
    with pytest.raises(GensegError, match="does not serve"):
        policy(server)


@pytest.mark.parametrize("page", ["<html>", "{}", "[]", "null", '{"data": 3}', '{"data": [1]}', '{"data": null}', "{"])
def test_a_page_that_is_no_api_is_said_so(server: Server, page: str) -> None:
    server.models = page
    with pytest.raises(GensegError) as caught:
        policy(server)
    assert "/v1" in caught.value.hint or "served_model" in caught.value.hint


def test_the_other_coordinate_convention_is_refused(server: Server) -> None:
    server.models = {"Qwen/Qwen2.5-VL-7B-Instruct": "vllm"}
    with pytest.raises(GensegError, match=r"answers in resized-pixels, .* answers in grid") as caught:
        policy(server)
    assert caught.value.hint == "--model qwen2.5-vl-7b"
    assert policy(server, "qwen2.5-vl-7b").id == "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize(
    ("served", "alias", "message"),
    [
        ("Ricky06662/Seg-Zero-7B", "qwen2.5-vl-7b", "which speaks the dialect seg-zero, .* dialect genseg-pixels"),
        ("seg-zero-7b", "visionreasoner-7b", "which speaks the dialect seg-zero, .* dialect vision-reasoner"),
    ],
)
def test_another_dialect_is_refused(server: Server, served: str, alias: str, message: str) -> None:
    server.models = {served: "vllm"}
    with pytest.raises(GensegError, match=message) as caught:
        policy(server, alias)
    assert caught.value.hint == "--model seg-zero-7b"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("squash", None, "stretched to 840x840, .* to no other size"), ("factor", 32, "squares of 28, .* squares of 32")],
)
def test_another_frame_is_refused(server: Server, field: str, value: int | None, message: str) -> None:
    server.models = {"Ricky06662/Seg-Zero-7B": "vllm"}
    own = model("seg-zero-7b")
    own = replace(own, entry=replace(own.entry, **{field: value}))
    with pytest.raises(GensegError, match=message):
        connect(own, base_url=server.url)


def test_an_unknown_name_is_taken_with_a_note(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    policy(server)
    assert (
        "serves m, a name not known here: its questions and coordinates are taken to be those of qwen3-vl-4b"
        in caplog.text
    )
    caplog.clear()
    policy(server, served_model="m")
    server.models = {"Qwen/Qwen3-VL-4B-Instruct": "vllm"}
    policy(server)
    assert not caplog.text


def test_a_server_that_calls_its_model_demo_serves_the_miniature(server: Server) -> None:
    """The table's row of a bundled model is completed by its files: its squares are of 20 pixels, not of 32."""
    server.models = {"demo": "vllm"}
    made = connect(resolve_policy("demo"), base_url=server.url)
    assert (made.id, made.entry.factor) == ("demo", 20)
    made.close()
    with pytest.raises(
        GensegError, match=r"serves demo, which speaks the dialect genseg-mini, .* dialect genseg$"
    ) as caught:
        policy(server)
    assert caught.value.hint == "--model demo"


def test_names_that_a_server_lists_are_bounded(server: Server) -> None:
    server.models = {f"{'n' * 900}{number:03}": "x" for number in range(100)}
    with pytest.raises(GensegError, match="does not serve") as caught:
        policy(server)
    assert len(caught.value.hint) < 2500
    assert caught.value.hint.endswith(" and 80 more")
    server.models = {"n" * 1001: "x"}
    with pytest.raises(GensegError, match=r"expected a list of models, found data\.0\.id: 'nnn"):
        policy(server)


def test_entries_outside_the_table_are_believed(server: Server) -> None:
    own = model()
    own = replace(own, entry=replace(own.entry, source="/models/mine", alias="/models/mine"))
    made = connect(own, base_url=server.url)
    assert made.id == "m"
    made.close()
