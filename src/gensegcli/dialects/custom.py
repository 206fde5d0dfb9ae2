"""A dialect whose question the user wrote: asked in their words, read by the same reader."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from gensegcli.dialects.base import Dialect
    from gensegcli.records import Answer, FinishReason, Refusal, Size

PLACEHOLDER = "{query}"


class CustomPrompt:
    """See `Dialect`; `digest` is that of the user's text."""

    def __init__(self, base: Dialect, template: str) -> None:
        self.base, self.template = base, template
        self.name, self.asks_negatives, self.rounding = base.name, base.asks_negatives, base.rounding
        self.digest = hashlib.sha256(template.encode()).hexdigest()[:12]

    def ask(self, query: str) -> str:
        # Not str.format: a question that shows the form of the answer is full of braces.
        return self.template.replace(PLACEHOLDER, query)

    def render(self, answer: Answer, *, frame: Size | None = None) -> str:
        return self.base.render(answer, frame=frame)

    def read(
        self, text: str, *, frame: Size | None = None, finish: FinishReason | None = None, strict: bool = False
    ) -> Answer | Refusal:
        return self.base.read(text, frame=frame, finish=finish, strict=strict)


def with_prompt(dialect: Dialect, template: str) -> CustomPrompt:
    """The dialect with another question.

    Raises:
        GensegError: the template has no `{query}` in it, or is not Unicode.
    """
    try:
        template.encode()
    except UnicodeEncodeError:
        raise GensegError("the prompt text is not Unicode: it holds half of a surrogate pair") from None
    if PLACEHOLDER not in template:
        raise GensegError(
            f"the prompt text has no {PLACEHOLDER} in it",
            hint="that is where the expression goes; braces stay as they are",
        )
    return CustomPrompt(dialect, template)
