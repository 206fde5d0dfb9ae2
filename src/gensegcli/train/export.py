"""A trained policy as a folder that `genseg predict --model` and transformers take as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gensegcli
from gensegcli.models import CARD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gensegcli.dialects.base import Dialect
    from gensegcli.families import PolicyEntry


@dataclass(frozen=True)
class Passport:
    """What must travel with a policy's weights.

    Attributes:
        entry: its conventions.
        dialect: with which it was trained.
        base: name of the model it was trained from.
        segmenter: alias of the segmenter it is used with.
        training: facts about the training (stage, data and its digest, reward, run settings) as plain JSON.
    """

    entry: PolicyEntry
    dialect: Dialect
    base: str
    segmenter: str
    training: Mapping[str, Any] = field(default_factory=dict)

    def card(self, step: int) -> dict[str, Any]:
        """`genseg.json`."""
        entry = self.entry
        return {
            "dialect": self.dialect.name,
            "coordinates": str(entry.coordinates),
            "prompt_digest": self.dialect.digest,
            "segmenter": self.segmenter,
            "min_pixels": entry.min_pixels,
            "max_pixels": entry.max_pixels,
            **({"squash": list(entry.squash)} if entry.squash else {}),
            "base": self.base,
            "step": step,
            "training": dict(self.training),
            "genseg": gensegcli.__version__,
        }

    def write(self, folder: Path, step: int) -> None:
        """Put `genseg.json` and the model card beside the weights."""
        card = self.card(step)
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(card), encoding="utf-8")


def _readme(card: Mapping[str, Any]) -> str:
    """The model card: metadata for the hub, then what the model is and how it came to be."""
    training = card["training"]
    base = card["base"]
    header = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text"]
    header += [f"base_model: {base}"] if "/" in base and not base.startswith(("/", ".", "~")) else []
    header += ["tags:", "- genseg", "- referring-segmentation", f"- {training.get('stage', 'grpo')}", "---"]
    facts = [
        ("trained from", base),
        ("stage", training.get("stage")),
        ("steps", card["step"]),
        ("data", f"{training.get('data')} ({training.get('data_digest')})"),
        ("reward", json.dumps(training["reward"]["weights"]) if training.get("reward") else None),
        ("dialect", f"{card['dialect']} (question {card['prompt_digest']})"),
        ("coordinates", card["coordinates"]),
        ("segmenter", card["segmenter"]),
        ("genseg", card["genseg"]),
    ]
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts if value is not None)
    return "\n".join(
        [
            *header,
            "",
            "# A policy for reason-then-segment",
            "",
            "Reads a picture and an expression, thinks, and answers with boxes and points for SAM 2, or says that nothing",
            "matches.",
            "",
            "```console",
            'genseg predict photo.jpg "person with blue shirt" --model THIS_FOLDER',
            "```",
            "",
            "| fact | value |",
            "|---|---|",
            rows,
            "",
        ]
    )
