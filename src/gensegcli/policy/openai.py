"""Any OpenAI-compatible server (vLLM, llama.cpp, SGLang, a hosted one): concurrent requests, retried with back-off.

Retries with exponential back-off and jitter after 408, 409, 429, 5xx, time-outs and broken connections are the
official client's own. The API key comes from GENSEG_API_KEY or OPENAI_API_KEY and appears in no message.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import openai
from pydantic import BaseModel, ValidationError, field_validator, model_validator

from gensegcli.errors import ExitCode, GensegError
from gensegcli.models import POLICIES
from gensegcli.policy.base import all_or_raise, check_sampling
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import finished_text, neutralise
from gensegcli.records import Completion, FinishReason, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gensegcli.config import EngineOptions
    from gensegcli.models import ResolvedPolicy
    from gensegcli.records import Question, Sampling

log = logging.getLogger(__name__)

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
        self._client = openai.OpenAI(
            base_url=self.address,
            api_key=self._key or "none",  # the client insists on one; servers of one's own ask for none
            timeout=options.timeout,
            max_retries=options.retries,
        )
        self.id, owner = self._served(model, options.served_model)
        self._extra = NEUTRAL_SAMPLING.get(owner)

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        check_sampling(sampling)
        hopeless = threading.Event()  # no server, or it does not let us in: nobody else need try

        def ask(question: Question) -> list[Completion] | GensegError:
            if hopeless.is_set():
                return GensegError(f"not asked: {self.address} had failed before", code=ExitCode.ENVIRONMENT)
            try:
                return self._ask(question, sampling)
            except openai.OpenAIError as error:
                if _concerns_all(error):
                    hopeless.set()
                return self._explain(error, ExitCode.SOME_FAILED)
            except GensegError as error:
                return error

        with ThreadPoolExecutor(min(self._concurrency, max(1, len(questions)))) as pool:
            return all_or_raise(list(pool.map(ask, questions)))

    def close(self) -> None:
        self._client.close()

    def _ask(self, question: Question, sampling: Sampling) -> list[Completion]:
        content = [
            {"type": "image_url", "image_url": {"url": data_url(fit_picture(self.entry, question.image))}},
            {"type": "text", "text": neutralise(question.text)},
        ]
        raw = self._client.chat.completions.with_raw_response.create(
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
            raise self._garbage(raw.text, ExitCode.SOME_FAILED) from error
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
        try:
            page = self._client.models.list()
            listed = {item.id: str(item.owned_by) for item in page.data}
        except openai.NotFoundError:
            listed = {}  # a server without this page: its user must know the name
        except openai.OpenAIError as error:
            raise self._explain(error, ExitCode.ENVIRONMENT) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise self._garbage(str(error), ExitCode.ENVIRONMENT) from error
        wanted = name or next((known for known in (model.id, model.entry.source) if known in listed), None)
        if wanted is None and len(listed) == 1:
            wanted = next(iter(listed))
            if not any(wanted in (entry.source, entry.alias) for entry in POLICIES.values()):
                log.warning(
                    "%s serves one model, %s, a name not known here: it is asked and read as %s, which must be right",
                    self.address,
                    wanted,
                    self.entry.alias,
                )
        if wanted is None or (listed and wanted not in listed):
            raise GensegError(
                f"{self.address} does not serve {wanted or model.id}",
                hint=f"name one of its models with served_model: {', '.join(sorted(listed)) or 'it lists none'}",
                code=ExitCode.NOT_FOUND,
            )
        self._same_conventions(wanted)
        return wanted, listed.get(wanted, "")

    def _same_conventions(self, served: str) -> None:
        known = next((entry for entry in POLICIES.values() if served in (entry.source, entry.alias)), None)
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

    def _garbage(self, found: str, code: ExitCode) -> GensegError:
        return GensegError(
            f"{self.address}: expected a chat completion, found {self._redact(found)[:200]}",
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
        what, hint = next(
            ((what, hint) for kind, what, hint in _EXPLANATIONS if isinstance(error, kind)), ("failed", "")
        )
        detail = self._redact(str(error)).strip().splitlines() or [""]
        return GensegError(
            f"{self.address}: {what.format(timeout=self._timeout)} ({detail[0][:300]})",
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


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(BaseModel):
    choices: list[_Choice]
    usage: _Usage = _Usage()

    @field_validator("usage", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return _Usage() if value is None else value


# ---------------------------------------------------------------- what went wrong

_REFUSED = (openai.AuthenticationError, openai.PermissionDeniedError)


def _concerns_all(error: openai.OpenAIError) -> bool:
    """Whether no other question can fare better: no connection, or a refused key. A time-out may be one question's."""
    return type(error) is openai.APIConnectionError or isinstance(error, _REFUSED)


# The first kind that fits explains; a time-out is also a connection error, so it comes first.
_EXPLANATIONS: tuple[tuple[type[openai.OpenAIError] | tuple[type[openai.OpenAIError], ...], str, str], ...] = (
    (
        openai.APITimeoutError,
        "no answer within {timeout:g} s, every retry included",
        "raise timeout, or lower max_tokens",
    ),
    (openai.APIConnectionError, "no server answers there", "start it, or check --base-url; it usually ends in /v1"),
    (_REFUSED, "the server refuses the API key", f"set {' or '.join(KEY_VARIABLES)}"),
    (openai.NotFoundError, "no such address or model", "check --base-url (it usually ends in /v1) and served_model"),
    (openai.RateLimitError, "too many requests, even after waiting", "lower concurrency, or raise retries"),
    (openai.InternalServerError, "the server failed, even after retries", "its log says more; running again resumes"),
    (openai.BadRequestError, "the server does not accept the question", ""),
)


def _shown(value: object) -> str:
    return f"{value.width}x{value.height}" if isinstance(value, Size) else str(value or "no other size")


def data_url(image: Image) -> str:
    """The picture as a `data:` URL, PNG: lossless, and any server reads it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # speed over size: these bytes travel once
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
