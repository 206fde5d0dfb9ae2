"""Tokenizer, processor and architecture of the miniature policy: Qwen3-VL in every part, only small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from gensegcli.records import GRID
from gensegcli.sources.scenes import COLOURS, SHAPES, scene_of, true_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gensegcli.dialects.base import Dialect

PATCH = 10
MERGE = 2
MIN_PIXELS, MAX_PIXELS = 12_000, 16_000
"""Every picture is resized to about 120 x 120 pixels: 36 picture tokens of 20 x 20 pixels each."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# One piece, and so one token, for each fixed part of an answer, each number and each word.
_FIXED = (
    "<think>",
    "</think><answer>",
    "</answer>",
    '{"bbox_2d": [',
    '], "point_1": [',
    '], "point_2": [',
    "]}",
    '{"no_target": true}',
    "). Match: ",
    ". Match: ",
    "); ",
    ").",
    ", ",
    " (",
)
_PIECES = "|".join([*("".join(rf"\{c}" if not c.isalnum() and c not in ' <>_:",;' else c for c in p) for p in _FIXED)])
_SPLIT = rf"{_PIECES}|\d{{1,4}}|\s?\p{{L}}+|\s?[^\s\p{{L}}\d]|\s"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def build_tokenizer(dialect: Dialect) -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: a piece of text that the scenes use is one token, all else falls into bytes.

    The vocabulary is listed, not trained: a trainer breaks ties between equally frequent pairs as it pleases, and a
    resumed run whose tokenizer differs in ten numbers forgets what these are.
    """
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = sorted({piece for text in _language(dialect) for piece, _ in split.pre_tokenize_str(text)})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, *(piece for piece in pieces if len(piece) > 1)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in SPECIAL if token not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
    )


def _language(dialect: Dialect) -> Iterator[str]:
    """Texts that together hold every word, number and form that questions and answers about scenes are made of."""
    for index in range(400):
        scene, reference = scene_of(index, seed=1)
        yield dialect.ask(reference.expression)
        yield dialect.render(true_answer(scene, reference))
    for number in range(GRID + 1):
        yield f"{number}"
    words = [*COLOURS, *SHAPES, "small", "large", "thing", "user", "assistant", "system"]
    yield from (text for word in words for text in (word, f" {word}"))


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Qwen3-VL's own processor with this tokenizer and small patches."""
    pixels = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    shared = dict(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **shared),
        video_processor=Qwen3VLVideoProcessor(size=pixels, **shared),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    """The untrained policy. Seed torch before calling."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    hidden = 192
    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            head_dim=32,  # vLLM's CPU attention takes 32, 64, …
            max_position_embeddings=4096,
            rope_parameters=dict(
                rope_type="default", rope_theta=2000.0, mrope_section=[6, 5, 5], mrope_interleaved=True
            ),
            initializer_range=0.04,
            pad_token_id=ids["<|endoftext|>"],
            bos_token_id=None,
            eos_token_id=ids["<|im_end|>"],
            tie_word_embeddings=True,
        ),
        vision_config=dict(
            depth=4,
            hidden_size=128,
            intermediate_size=384,
            num_heads=4,
            patch_size=PATCH,
            spatial_merge_size=MERGE,
            temporal_patch_size=2,
            out_hidden_size=hidden,
            num_position_embeddings=12 * 12,
            deepstack_visual_indexes=[1],
            initializer_range=0.04,
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.generation_config.do_sample = False
    _place_numbers_on_a_line(model, tokenizer)
    return model


def number_tokens(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token id of each number 0 … 1000, (1001,)."""
    ids = [tokenizer.encode(str(number), add_special_tokens=False) for number in range(GRID + 1)]
    assert all(len(tokens) == 1 for tokens in ids), "each number of the grid is one token"
    return torch.tensor([tokens[0] for tokens in ids])


@torch.no_grad()
def _place_numbers_on_a_line(model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Start the number embeddings as sines of their value: neighbours alike, so that near is learned before exact."""
    weight = model.get_input_embeddings().weight
    width = weight.shape[1]
    cycles = torch.logspace(-0.3, 1.7, width // 2)  # half a period up to fifty over the whole grid
    phase = 2 * torch.pi * torch.arange(GRID + 1)[:, None] / GRID * cycles
    features = torch.cat([phase.sin(), phase.cos()], 1)
    mixing, _ = torch.linalg.qr(torch.randn(width, width))
    weight[number_tokens(tokenizer)] = (features @ mixing) * 0.05
