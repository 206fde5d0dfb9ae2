"""Two things every group and command of `genseg` needs and Typer does not do: quick flags, and examples line by line."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class QuickGroup(TyperGroup):
    """A group whose own options cost nothing: every flag is off rather than unset.

    From 0.29 Typer hands an unset value to pydantic for coercion, and importing pydantic would cost every subcommand's
    help three times what the rest of it costs. A bool passes as it is.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False) and param.default is None:
                param.default = False
        return params


def keep_examples(command: Any) -> None:
    """Have the lines under "Examples:" in a command's help, and in that of its subcommands, shown as they stand.

    A backspace at the head of a paragraph is the mark for that. It cannot stand in a docstring: there it would have to
    be written as an escape, which a docstring must not hold unless it is raw, and then it is none.
    """
    if command.help:
        command.help = command.help.replace("\n\nExamples:\n", "\n\n\b\nExamples:\n")
    for subcommand in getattr(command, "commands", {}).values():
        keep_examples(subcommand)
