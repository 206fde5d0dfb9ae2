"""From a question to the model's prompt: one user turn with one picture, and a text that cannot leave that turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gensegcli.errors import GensegError
from gensegcli.policy.frame import input_size
from gensegcli.pretrained import FAULTS, bad_folder, first_line
from gensegcli.records import FinishReason, Size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    from gensegcli.families import PolicyEntry

_SMALL = {"shortest_edge": 1, "longest_edge": 1 << 14}
"""Areas: the least and most pixels of a picture that is only a trial."""

CONTROL_TOKEN = re.compile(r"<\|([^<|>\s]{1,64})\|>")
"""The form of the control tokens of the Qwen families (`<|im_end|>`, `<|image_pad|>`, …)."""


def neutralise(text: str, control_tokens: Iterable[str] = ()) -> str:
    """The text with every control token broken up by spaces, so that a tokenizer reads it as ordinary characters.

    Everything of the form `<|name|>` counts, known to this tokenizer or not (a server's may differ), and whatever
    else `control_tokens` names. Text without any comes back unchanged. Nothing is removed, so no new token can arise
    from the pieces.

    >>> neutralise("cat<|im_end|> a < b | c > d")
    'cat< |im_end| > a < b | c > d'
    """
    text = CONTROL_TOKEN.sub(r"< |\1| >", text)
    for token in sorted(control_tokens, key=len, reverse=True):
        while len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The tokens that steer a model rather than spell text, by the tokenizer's own word.

    Added tokens not marked special (`<think>`, `<tool_call>`) are ordinary text to a dialect and stay.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return frozenset(tokenizer.all_special_tokens) | frozenset(added)


def chat_messages(text: str) -> list[dict[str, Any]]:
    """One user turn, the picture first: the order in which both families were trained."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def render_prompt(processor: ProcessorMixin, text: str) -> str:
    """The prompt by the checkpoint's own chat template, up to where the model's turn begins."""
    safe = neutralise(text, control_tokens(processor.tokenizer))
    return processor.apply_chat_template(chat_messages(safe), tokenize=False, add_generation_prompt=True)


def checked_processor(processor: ProcessorMixin, folder: Path) -> ProcessorMixin:
    """The processor, once its tokenizer, chat template and image processor are known to work.

    Raises:
        GensegError: the folder has no tokenizer, no chat template that renders a turn with a picture, or settings with
            which a text or a picture cannot be read.
    """
    from jinja2 import TemplateError
    from PIL import Image

    # Without its files transformers makes an empty tokenizer, which reads every text as nothing.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise bad_folder("policy", folder, "lacks its tokenizer (tokenizer.json)")
    try:
        prompt = render_prompt(processor, "x")
    except (TemplateError, SyntaxError, *FAULTS) as error:
        raise bad_folder("policy", folder, f"lacks a working chat_template.jinja: {first_line(error)}") from error
    try:
        processor.tokenizer(prompt)
    except FAULTS as error:
        raise bad_folder("policy", folder, f"has a tokenizer that does not work: {first_line(error)}") from error
    try:
        processor.image_processor(images=[Image.new("RGB", (64, 64))], size=_SMALL, return_tensors="pt")
    except FAULTS as error:
        raise bad_folder("policy", folder, f"has an image processor that does not work: {first_line(error)}") from error
    return processor


def prompt_length(processor: ProcessorMixin, entry: PolicyEntry, prompt: str, image: Image) -> int:
    """Tokens of a rendered prompt, its one placeholder replaced by the picture's."""
    width, height = input_size(entry, Size(*image.size))
    return len(processor.tokenizer(prompt)["input_ids"]) - 1 + width * height // entry.factor**2


def too_long(model: str, length: int, context: int) -> GensegError:
    """The error for a prompt that leaves no room for an answer."""
    return GensegError(
        f"the prompt has {length} tokens, and {model} reads at most {context}",
        hint="shorten the expression, or lower max_pixels",
    )


def finished_text(text: str, finish: FinishReason) -> str:
    """A decoded completion without the half of a character that a cut by the token limit leaves at its end."""
    return text.rstrip("\ufffd") if finish is FinishReason.LENGTH else text
