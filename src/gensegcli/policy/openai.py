"""Any OpenAI-compatible server (vLLM, llama.cpp, SGLang, a hosted one): concurrent requests, retried with back-off.

Retries with exponential back-off and jitter after 408, 409, 429, 5xx, time-outs and broken connections are the
official client's own. Every try ends after `timeout` seconds and at `MAX_REPLY` bytes, whatever the server does. The
API key comes from GENSEG_API_KEY or OPENAI_API_KEY and appears in no message.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import openai
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import excerpt
from gensegcli.models import POLICIES, resolve_policy
from gensegcli.policy.base import all_or_raise, check_sampling
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import finished_text, neutralise
from gensegcli.records import Completion, FinishReason, Size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from PIL.Image import Image

    from gensegcli.config import EngineOptions
    from gensegcli.models import PolicyEntry, ResolvedPolicy
    from gensegcli.records import Question, Sampling

log = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_REPLY = 16 << 20
"""Bytes of a reply: many times what the longest completions take."""

KEY_VARIABLES = ("GENSEG_API_KEY", "OPENAI_API_KEY")

NEUTRAL_SAMPLING: dict[str, dict[str, Any]] = {
    "vllm": {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
}
"""By the server's `owned_by`: fields beyond OpenAI's that undo a checkpoint's own sampling defaults.

A repetition penalty, for one, would punish the repeated digits of which coordinates are made. Servers that do not
know such fields refuse them, so they go only where they are known.
"""

_CONVENTIONS = {
    "coordinates": "answers in {}",
    "dialect": "speaks the dialect {}",
    "squash": "has pictures stretched to {}",
    "factor": "sees pictures in squares of {}",
}
"""Fields of `PolicyEntry` in which a known model on the server must agree with the one asked for, and their words."""

_NAME_LENGTH, _NAMES = 80, 20
"""Characters of a server's model name, and how many of its names, in a hint."""


class OpenAIPolicy:
    """A model behind an OpenAI-compatible server.

    Pictures are sent at the size at which the model sees them, as lossless PNG: the server's processor then has
    nothing to resize, and the frame of its answers is known here.

    Args:
        model: its conventions; no files are needed.
        options: `base_url`, `served_model`, `concurrency`, `timeout` and `retries` count.

    Raises:
        GensegError: no address, no server there, or no such model on it.
    """

    revision: str | None = None

    def __init__(self, model: ResolvedPolicy, options: EngineOptions) -> None:
        if not options.base_url:
            raise GensegError("backend openai needs the address of a server", hint="--base-url http://HOST:PORT/v1")
        self.entry = model.entry
        self.address = options.base_url.rstrip("/")
        self._concurrency = max(1, options.concurrency)
        self._timeout = options.timeout
        self._key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        self._retries = options.retries
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="genseg-openai", daemon=True)
        self._thread.start()
        self._client = openai.AsyncOpenAI(
            base_url=self.address,
            api_key=self._key or "none",  # the client insists on one; servers of one's own ask for none
            timeout=options.timeout,
            max_retries=options.retries,
            http_client=_BoundedClient(options.timeout, MAX_REPLY),
        )
        try:
            self.id, owner = self._served(model, options.served_model)
        except BaseException:
            self.close()
            raise
        self._extra = NEUTRAL_SAMPLING.get(owner)

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        check_sampling(sampling)
        return all_or_raise(self._run(self._ask_all(questions, sampling)))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Awaitable[_T]) -> _T:
        """What is awaited; it runs in the thread of this policy: the caller's may have a loop of its own."""

        async def whole() -> _T:
            return await work

        future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _ask_all(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion] | GensegError]:
        places = asyncio.Semaphore(self._concurrency)
        hopeless = answered = False

        async def ask(question: Question) -> list[Completion] | GensegError:
            nonlocal hopeless, answered
            async with places:
                if hopeless:
                    return GensegError(f"not asked: {self.address} had failed before", code=ExitCode.ENVIRONMENT)
                try:
                    completions = await self._ask(question, sampling)
                    answered = True
                    return completions
                except openai.OpenAIError as error:
                    # Some servers forbid what a question says with the status that refuses a key.
                    one_only = answered and isinstance(error, openai.PermissionDeniedError)
                    hopeless = hopeless or (_concerns_all(error) and not one_only)
                    return self._explain(error, ExitCode.SOME_FAILED)
                except GensegError as error:
                    return error

        return await asyncio.gather(*map(ask, questions))

    async def _ask(self, question: Question, sampling: Sampling) -> list[Completion]:
        shown = await asyncio.to_thread(lambda: data_url(fit_picture(self.entry, question.image)))
        content = [
            {"type": "image_url", "image_url": {"url": shown}},
            {"type": "text", "text": neutralise(question.text)},
        ]
        raw = await self._client.chat.completions.with_raw_response.create(
            model=self.id,
            messages=[{"role": "user", "content": content}],  # ty: ignore[invalid-argument-type]
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            n=sampling.n,
            seed=sampling.seed,
            max_tokens=sampling.max_tokens,
            extra_body=self._extra,
        )
        try:
            reply = _Reply.model_validate_json(raw.content)
        except ValidationError as error:
            raise self._garbage(_wrong_part(error) or raw.text, ExitCode.SOME_FAILED) from error
        if len(reply.choices) != sampling.n:
            raise self._garbage(f"{len(reply.choices)} of {sampling.n} completions", ExitCode.SOME_FAILED)
        # A server counts the tokens of all choices together: exact for one, a share for several.
        tokens = reply.usage.completion_tokens // sampling.n
        return [
            Completion(
                finished_text(choice.message.whole, choice.finish), choice.finish, tokens, reply.usage.prompt_tokens
            )
            for choice in sorted(reply.choices, key=lambda choice: choice.index)
        ]

    # ------------------------------------------------------------ the server

    def _served(self, model: ResolvedPolicy, name: str | None) -> tuple[str, str]:
        """Name of the model on the server, and what kind of server it says it is."""
        listed = self._listed()
        wanted = name or next((known for known in (model.id, model.entry.source) if known in listed), None)
        if wanted is None and len(listed) == 1:
            wanted = next(iter(listed))
            if _known_here(wanted) is None:
                log.warning(
                    "%s serves %s, a name not known here: its questions and coordinates are taken to be those of %s; "
                    "if they are another model's, name that with --model",
                    self.address,
                    wanted,
                    self.entry.alias,
                )
        if wanted is None or (listed and wanted not in listed):
            names = [excerpt(found, _NAME_LENGTH)[1:-1] for found in sorted(listed)[:_NAMES]]
            more = f" and {len(listed) - _NAMES} more" if len(listed) > _NAMES else ""
            raise GensegError(
                f"{self.address} does not serve {wanted or model.id}",
                hint="name one of its models with --set model.served_model=NAME: "
                f"{', '.join(names) or 'it lists none'}{more}",
                code=ExitCode.NOT_FOUND,
            )
        self._same_conventions(wanted)
        return wanted, listed.get(wanted, "")

    def _listed(self) -> dict[str, str]:
        """The models that the server lists, each with its owner; none where it has no such page."""
        try:
            page = self._run(self._client.models.with_raw_response.list())
            return {item.id: item.owned_by for item in _Page.model_validate_json(page.content).data}
        except openai.NotFoundError:
            return {}  # its user must know the name
        except openai.OpenAIError as error:
            raise self._explain(error, ExitCode.ENVIRONMENT) from error
        except ValidationError as error:
            raise self._garbage(_wrong_part(error) or page.text, ExitCode.ENVIRONMENT, "a list of models") from error

    def _same_conventions(self, served: str) -> None:
        known = _known_here(served)
        if known is None:
            return
        for field, words in _CONVENTIONS.items():
            theirs, ours = getattr(known, field), getattr(self.entry, field)
            if theirs != ours:
                raise GensegError(
                    f"{self.address} serves {served}, which {words.format(_shown(theirs))}, "
                    f"but the model asked for, {self.entry.alias}, {words.format(_shown(ours))}",
                    hint=f"--model {known.alias}",
                )

    def _garbage(self, found: str, code: ExitCode, expected: str = "a chat completion") -> GensegError:
        return GensegError(
            f"{self.address}: expected {expected}, found {self._redact(found)[:200]}",
            hint="is this the address of an OpenAI-compatible API? It usually ends in /v1",
            code=code,
        )

    def _explain(self, error: openai.OpenAIError, code: ExitCode) -> GensegError:
        """What the client's error means. `code` is that of errors that say nothing about the server as a whole."""
        if isinstance(error, openai.APIResponseValidationError):
            return self._garbage(str(error), code)
        if isinstance(error, openai.NotFoundError):
            code = ExitCode.NOT_FOUND
        elif _concerns_all(error):
            code = ExitCode.ENVIRONMENT
        if _is_refused_connection(error):
            what, hint = "no server answers there", "start it, or check --base-url; it usually ends in /v1"
        else:
            what, hint = next(
                ((what, hint) for kind, what, hint in _EXPLANATIONS if isinstance(error, kind)), ("failed", "")
            )
        # The client says "Connection error." and no more: its cause says what happened.
        cause = error.__cause__ if type(error) is openai.APIConnectionError else None
        detail = self._redact(str(cause or error)).strip().splitlines() or [type(cause or error).__name__]
        return GensegError(
            f"{self.address}: {what.format(timeout=self._timeout, tries=_times(self._retries + 1))}"
            f" ({detail[0][:300]})",
            hint=hint,
            code=code,
        )

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


# ---------------------------------------------------------------- what is read of a reply
# The client's own types are built without validation, so garbage would surface as an AttributeError somewhere later.


class _Message(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.think is None:
            raise ValueError("a message without text")
        return self

    @property
    def think(self) -> str | None:
        """What a server with a reasoning parser cut out of the text, under the names in use."""
        return self.reasoning if self.reasoning is not None else self.reasoning_content

    @property
    def whole(self) -> str:
        """The text as the model wrote it: the dialect's reader wants the think block back."""
        return (f"<think>{self.think}</think>" if self.think else "") + (self.content or "")


class _Choice(BaseModel):
    message: _Message
    index: int = 0
    finish_reason: str | None = None

    @property
    def finish(self) -> FinishReason:
        return FinishReason.LENGTH if self.finish_reason == "length" else FinishReason.STOP


_Count = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value), Field(ge=0, lt=1 << 31)]
"""A number of tokens. Bounded here, where the server can be named: the records are 64 bits wide."""


class _Usage(BaseModel):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class _Model(BaseModel):
    id: str = Field(min_length=1, max_length=1000)
    owned_by: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")] = ""


class _Page(BaseModel):
    data: list[_Model]


class _Reply(BaseModel):
    choices: list[_Choice]
    usage: _Usage = _Usage()

    @field_validator("usage", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return _Usage() if value is None else value


def _wrong_part(error: ValidationError) -> str:
    """The value that a reply was refused for; empty where that is the reply as a whole."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing" or not first["loc"]:
        return ""
    return f"{'.'.join(map(str, first['loc']))}: {excerpt(first['input'])}"


# ---------------------------------------------------------------- limits

_http: Any = import_module(openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0])
"""The library that the official client makes its requests with: httpx, or httpx2 from some version on."""


class _UnreadableReplyError(openai.OpenAIError):
    """A reply that is not read to its end."""


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads every reply whole, within a time and a size.

    The library's own time limit is one for each wait: a server that sends a byte now and then never meets it.

    Args:
        seconds: from sending the request to the last byte of the reply.
        size: most bytes of a reply, after it is decompressed.
    """

    def __init__(self, seconds: float, size: int) -> None:
        # Formats that shrink a thousandfold and no further: one piece from the network stays small when it is unpacked.
        super().__init__(headers={"Accept-Encoding": "gzip"})
        self._seconds, self._size = seconds, size

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:  # noqa: ARG002
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, stream=True, **options)
                try:
                    body = await self._body(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _http.ReadTimeout(f"not finished after {self._seconds:g} s", request=request) from None
        dropped = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in dropped]
        return _http.Response(response.status_code, headers=headers, content=body, request=response.request)

    async def _body(self, response: Any) -> bytes:
        packed = response.headers.get("content-encoding", "identity").strip().lower()
        if packed not in ("identity", "gzip"):
            raise _UnreadableReplyError(f"the reply is packed as {packed[:40]}, which was not asked for")
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._size:
                raise _UnreadableReplyError(f"the reply is larger than {self._size >> 20} MB")
        return bytes(body)


# ---------------------------------------------------------------- what went wrong

_REFUSED = (openai.AuthenticationError, openai.PermissionDeniedError)


def _concerns_all(error: openai.OpenAIError) -> bool:
    """Whether no other question can fare better: nobody listens there, or the key is refused.

    A time-out or a connection that breaks may be due to one question.
    """
    return _is_refused_connection(error) or isinstance(error, _REFUSED)


def _is_refused_connection(error: openai.OpenAIError) -> bool:
    return isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, _http.ConnectError)


# The first kind that fits explains; a time-out is also a connection error, so it comes first.
_EXPLANATIONS: tuple[tuple[type[openai.OpenAIError] | tuple[type[openai.OpenAIError], ...], str, str], ...] = (
    (
        openai.APITimeoutError,
        "no answer within {timeout:g} s, {tries}",
        "raise timeout, or lower max_tokens",
    ),
    (openai.APIConnectionError, "the connection broke, {tries}", "the server's log may say why"),
    (_UnreadableReplyError, "no answer", "is this the address of an OpenAI-compatible API? It usually ends in /v1"),
    (_REFUSED, "the server refuses the API key", f"set {' or '.join(KEY_VARIABLES)}"),
    (openai.NotFoundError, "no such address or model", "check --base-url (it usually ends in /v1) and served_model"),
    (openai.RateLimitError, "too many requests, even after waiting", "lower concurrency, or raise retries"),
    (openai.InternalServerError, "the server failed, even after retries", "its log says more; running again resumes"),
    (openai.BadRequestError, "the server does not accept the question", ""),
)


def _known_here(served: str) -> PolicyEntry | None:
    """The conventions of a model that the table knows by a server's name for it."""
    known = next((entry for entry in POLICIES.values() if served in (entry.source, entry.alias)), None)
    # What the table says of a bundled model is completed by its files.
    return resolve_policy(known.alias).entry if known is not None and known.bundled else known


def _times(count: int) -> str:
    return "tried once" if count == 1 else f"tried {count} times"


def _shown(value: object) -> str:
    return f"{value.width}x{value.height}" if isinstance(value, Size) else str(value or "no other size")


def data_url(image: Image) -> str:
    """The picture as a `data:` URL, PNG: lossless, and any server reads it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # speed over size: these bytes travel once
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
