"""A dialect: how one family of models is asked and how its answers are written and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gensegcli.records import Answer, FinishReason, Refusal, Size


class Dialect(Protocol):
    """Question, renderer and reader of one family, side by side.

    Coordinates of an `Answer` are always on the grid. A dialect whose models answer in other units gets the size of
    the frame they answer in (`frame`, for example the picture as the processor resized it) and converts.
    """

    name: str
    digest: str
    """First 12 hex digits of the SHA-256 of the prompt template: stored with every result."""
    asks_negatives: bool
    """Whether the question asks for background points, and a demonstrated answer has them."""
    rounding: int
    """The numbers of a demonstrated answer on the grid are multiples of this."""

    def ask(self, query: str) -> str:
        """The prompt text for a normalised expression."""
        ...

    def render(self, answer: Answer, *, frame: Size | None = None) -> str:
        """The completion a perfect model would write; `read(render(a), strict=True) == a`."""
        ...

    def read(
        self, text: str, *, frame: Size | None = None, finish: FinishReason | None = None, strict: bool = False
    ) -> Answer | Refusal:
        """What a completion says. Never raises; linear in the length of the text.

        Args:
            text: the completion, special tokens removed.
            frame: width and height in the units of the answer; None means the grid.
            finish: LENGTH turns an unreadable tail into a TRUNCATED refusal.
            strict: the whole must be exactly the dialect's form (rewards); otherwise forgiving (prediction, evaluation).
        """
        ...
