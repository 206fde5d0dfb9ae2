"""Checkpoints of the true architectures, small enough to build in a second: real processors, tokenizer and template.

The weights are random, but drawn wide: the logits are then far apart. The default seed is one for which no greedy
choice in the tests hangs on the last bits of a sum (`tests/policy/test_engines_agree.py` checks that), so engines that
add in different orders can be held to the same text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The families' form of a turn, worded here.
CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' %}<|im_start|>system
You look at pictures.<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}
{%- endfor %}
{%- endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_CORPUS = (
    "Find every object that the phrase describes and answer with JSON.",
    '<think>two red circles, left of the blue square</think><answer>[{"bbox_2d": [10, 20, 300, 400]}]</answer>',
    '{"point_1": [123, 456], "point_2": [789, 12]} {"no_target": true}',
    "system user assistant You look at pictures. person with blue shirt, the leftmost dog",
)


def tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE of the Qwen form with 384 pieces, trained on a few lines."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import AddedToken, Qwen2Tokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=384, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(_CORPUS, trainer)
    model = json.loads(trained.to_str())["model"]
    made = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL], special_tokens=True)
    return made


def _text(vocab: int, tokens: PreTrainedTokenizerBase, section: list[int], **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.25,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section, **more},
        "bos_token_id": None,
        "eos_token_id": tokens.eos_token_id,
    }


def _ids(tokens: PreTrainedTokenizerBase) -> dict[str, int]:
    return {
        "image_token_id": tokens.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokens.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokens.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokens.convert_tokens_to_ids("<|vision_end|>"),
    }


def _save(folder: Path, model: Any, processor: Any, tokens: PreTrainedTokenizerBase) -> Path:
    model.generation_config.eos_token_id = tokens.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = tokens.convert_tokens_to_ids("<|endoftext|>")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_qwen3_vl(folder: Path, *, seed: int = 1) -> Path:
    """A Qwen3-VL folder in float32: patches of 16, merged 2 × 2, 0.3 M parameters."""
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokens = tokenizer()
    vocab = -(-len(tokens) // 64) * 64
    config = Qwen3VLConfig(
        text_config={**_text(vocab, tokens, [6, 5, 5], mrope_interleaved=True), "head_dim": 32},
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.1,
        },
        tie_word_embeddings=False,
        **_ids(tokens),
    )
    shared = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 4096, "longest_edge": 65536}, **shared),
        video_processor=Qwen3VLVideoProcessor(cap_pixels_per_frame=True, **shared),
        tokenizer=tokens,
        chat_template=CHAT_TEMPLATE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _save(folder, Qwen3VLForConditionalGeneration(config), processor, tokens)


def build_qwen2_5_vl(folder: Path, *, seed: int = 1) -> Path:
    """A Qwen2.5-VL folder in float32: patches of 14, merged 2 × 2, window attention, 0.3 M parameters."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokens = tokenizer()
    vocab = -(-len(tokens) // 64) * 64
    config = Qwen2_5_VLConfig(
        text_config={**_text(vocab, tokens, [4, 6, 6]), "hidden_size": 128},
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.1,
        },
        tie_word_embeddings=False,
        **_ids(tokens),
    )
    shared = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 65536}, **shared),
        video_processor=Qwen2VLVideoProcessor(**shared),
        tokenizer=tokens,
        chat_template=CHAT_TEMPLATE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _save(folder, Qwen2_5_VLForConditionalGeneration(config), processor, tokens)


def build_bert(folder: Path) -> Path:
    """A checkpoint of a type that is neither policy nor segmenter."""
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    return folder


BUILDERS = {"qwen3_vl": build_qwen3_vl, "qwen2_5_vl": build_qwen2_5_vl}
"""Builder of each family that has one here, by `model_type`."""
