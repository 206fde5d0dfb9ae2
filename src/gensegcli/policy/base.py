"""What every policy offers: pictures and prompts in, text out, in one batched call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import Completion, Question, Sampling


class Policy(Protocol):
    """A vision-language model behind some engine."""

    id: str
    """Hub id, local folder or server model name."""
    revision: str | None
    """Commit of a hub model, digest of a local one; None where nobody can say (a server)."""

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        """Answer each question `sampling.n` times, in the order of the questions.

        Args:
            questions: any number; the engine batches as it sees fit.
            sampling: greedy at temperature 0; seeded, so the same call gives the same texts on the same machine.

        Returns:
            One list of `sampling.n` completions per question.

        Raises:
            QuestionsFailedError: questions that could not be answered, beside the answers of the others.
            GensegError: the engine as a whole cannot go on.
        """
        ...

    def close(self) -> None:
        """Free the engine: processes, sockets, memory. The policy is unusable afterwards."""
        ...


class QuestionsFailedError(GensegError):
    """Some questions of a call could not be answered; the others were, and nothing of them is lost.

    Attributes:
        outcomes: for each question, in order, its completions or the error that concerns it alone.
    """

    def __init__(self, outcomes: Sequence[list[Completion] | GensegError]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, GensegError)]
        first = errors[0]
        count = f"{len(errors)} of {len(outcomes)} questions failed; the first: " if len(outcomes) > 1 else ""
        super().__init__(f"{count}{first.message}", hint=first.hint, code=first.code)
        self.outcomes = list(outcomes)


def all_or_raise(outcomes: Sequence[list[Completion] | GensegError]) -> list[list[Completion]]:
    """The completions if every question has some.

    Raises:
        QuestionsFailedError: otherwise, with all outcomes inside.
    """
    done = [outcome for outcome in outcomes if not isinstance(outcome, GensegError)]
    if len(done) < len(outcomes):
        raise QuestionsFailedError(outcomes)
    return done


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings that contradict themselves.

    Raises:
        GensegError: greedy decoding asked for several completions, or a value out of its range.
    """
    if sampling.temperature == 0 and sampling.n != 1:
        raise GensegError(
            f"n={sampling.n} with temperature 0: greedy decoding has one completion per question",
            hint="set a temperature above 0 to draw several",
        )
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.n < 1 or sampling.max_tokens < 1:
        raise GensegError(
            f"sampling settings out of range: {sampling}",
            hint="temperature >= 0, 0 < top_p <= 1, n >= 1, max_tokens >= 1",
        )
