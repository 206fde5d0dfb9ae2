"""Supervised start of the miniature policy.

Three things make it learn within an hour on a processor: a dense head on the picture tokens, thrown away afterwards,
that must say what is where; a think text that lists every thing with its place; and number targets that are soft at
first (near is better than far) and sharpen with time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from gensegcli.dialects import get_dialect
from gensegcli.miniature.policy_data import SceneBatches
from gensegcli.miniature.policy_model import (
    MAX_PIXELS,
    MIN_PIXELS,
    build_model,
    build_processor,
    build_tokenizer,
    number_tokens,
)
from gensegcli.miniature.teaching import Schedule, Teacher
from gensegcli.records import GRID
from gensegcli.sources.scenes import ANSWER_STEP, COLOURS, RADIUS, SHAPES

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

    from gensegcli.miniature.policy_data import Batch

DIALECT = "genseg-mini"


@dataclass(frozen=True)
class Recipe(Schedule):
    """How the policy is taught."""

    steps: int = 7_200
    learning_rate: float = 2e-3
    decay_share: float = 0.42
    scenes: int = 12
    questions: int = 2

    def softness(self, step: int) -> float:
        """Standard deviation, in grid units, of the number targets; 0 means exact."""
        progress = step / (0.5 * self.steps)
        return 60.0 * (1 - progress) ** 2 if progress < 0.95 else 0.0

    def near_misses(self, step: int) -> float:
        """Share of questions that nothing matches: more at the end, since "none" is what is learned last."""
        return 0.25 if step < 0.94 * self.steps else 0.4

    def dense_weight(self, step: int) -> float:
        return max(0.1, 1.0 - step / (0.3 * self.steps))


class DenseHead(nn.Module):
    """What covers the cell behind each picture token: present or not, colour, shape, size, box."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = [1, len(COLOURS), len(SHAPES), len(RADIUS), 4]
        self.linear = nn.Linear(width, sum(self.parts))

    def loss(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        present, colour, shape, size, box = self.linear(tokens).float().split(self.parts, -1)
        here = batch.cells[:, 0] >= 0
        loss = F.binary_cross_entropy_with_logits(present[:, 0], here.float())
        for logits, target in zip((colour, shape, size), batch.cells.unbind(1), strict=True):
            loss = loss + F.cross_entropy(logits, target, ignore_index=-100)
        return loss + 5 * F.l1_loss(box[here], batch.boxes[here])


class LinearPatchEmbed(nn.Module):
    """The same sums as the model's Conv3d over whole patches, many times faster on a processor; shares its weights."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.proj = convolution

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def short_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention for short unpadded sequences on a processor: plain products, everything in bfloat16.

    The fused CPU kernel's backward pass and the eager code's detour through float32 are both slower. query (b heads t d), key and value (b groups t d); returns (b t heads d).
    """
    assert attention_mask is None, "rows are padded on the right and causal: no row sees its padding"
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    scores = (query * scaling) @ key.transpose(2, 3)
    if module.is_causal:
        length = query.shape[2]
        scores = scores + torch.full((length, length), float("-inf"), dtype=scores.dtype).triu(1)
    with torch.autocast("cpu", enabled=False):
        shares = scores.softmax(-1)
    return (shares @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("short", short_attention)
AttentionMaskInterface.register("short", sdpa_mask)  # None where the causal rule alone suffices


class PolicyTeacher(Teacher):
    """Teaches the text of true answers, and the dense head beside it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.dialect = get_dialect(DIALECT)
        self.tokenizer: PreTrainedTokenizerFast = build_tokenizer(self.dialect)
        self.processor = build_processor(self.tokenizer)
        self.model: Qwen3VLForConditionalGeneration = build_model(self.tokenizer)
        self.dense = DenseHead(self.model.config.text_config.hidden_size)
        self.numbers = number_tokens(self.tokenizer)
        self.value_of = torch.full((len(self.tokenizer),), -1.0)
        self.value_of[self.numbers] = torch.arange(GRID + 1.0)
        self.spoken = torch.arange(0, GRID + 1, ANSWER_STEP)  # the numbers that taught answers use
        visual = self.model.model.visual
        visual.patch_embed = LinearPatchEmbed(visual.patch_embed.proj)
        self.model.set_attn_implementation("short")
        self.prepare("layers", "blocks", "merger")

    def batches(self, start: int, stop: int) -> SceneBatches:
        recipe = self.recipe
        return SceneBatches(
            self.tokenizer,
            self.dialect,
            scenes=recipe.scenes,
            questions=recipe.questions,
            near_misses=recipe.near_misses,
            start=start,
            stop=stop,
        )

    def weights(self, step: int) -> dict[str, float]:
        return {"words": 1.0, "numbers": 1.0, "dense": self.recipe.dense_weight(step)}

    def losses(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Loss of the text by kind of token, and of the dense head."""
        inner = self.model.model
        with torch.autocast("cpu", torch.bfloat16):
            seen = inner.visual(batch.patches, grid_thw=batch.grid)
            dense = self.dense.loss(seen.pooler_output, batch)
            scenes = len(batch.grid)
            tokens, deep = (
                part.view(scenes, -1, part.shape[-1])[batch.scene_of].flatten(0, 1)
                for part in (seen.pooler_output, seen.deepstack_features[0])
            )
            embedded = inner.get_input_embeddings()(batch.ids)
            picture = batch.ids == self.model.config.image_token_id
            embedded = embedded.masked_scatter(picture[..., None], tokens.to(embedded.dtype))
            # All rows hold one picture of one size at the same place, so the first row's positions serve all.
            positions, _ = inner.get_rope_index(batch.ids[:1], picture[:1].int(), image_grid_thw=batch.grid[:1])
            hidden = inner.language_model(
                inputs_embeds=embedded,
                position_ids=positions.expand(-1, len(batch.ids), -1),
                visual_pos_masks=picture,
                deepstack_visual_embeds=[deep],
                use_cache=False,
            ).last_hidden_state
            asked = batch.taught[:, 1:].flatten().nonzero()[:, 0]
            rows = F.pad(asked, (0, -len(asked) % 512))  # few distinct shapes: each new one costs a compilation
            logits = self.model.lm_head(hidden[:, :-1].flatten(0, 1)[rows])[: len(asked)]
            targets = batch.ids[:, 1:].flatten()[asked]
        return {"dense": dense, **self._text_losses(logits.float(), targets, step)}

    def _text_losses(self, logits: torch.Tensor, targets: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        logs = logits.log_softmax(-1)
        values = self.value_of[targets]
        number = values >= 0
        words = -logs[~number].gather(1, targets[~number, None])
        softness = self.recipe.softness(step)
        if softness > 1:
            distance = values[number, None] - self.spoken
            aims = torch.softmax(-(distance**2) / (2 * softness**2), -1)
            numbers = -(aims * logs[number][:, self.numbers[self.spoken]]).sum(-1)
            numbers = numbers + (aims * aims.clamp_min(1e-9).log()).sum(-1)  # the floor that softness itself sets
        else:
            numbers = -logs[number].gather(1, targets[number, None])
        return {"words": words.mean(), "numbers": numbers.mean()}

    def save(self, folder: Path) -> None:
        """A Hugging Face folder: weights in float16, configuration, processor, and the card that names the dialect."""
        half = {name: weight.half() for name, weight in self.model.state_dict().items()}
        model = build_model(self.tokenizer).half()
        model.load_state_dict(half)
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        card = {
            "dialect": self.dialect.name,
            "coordinates": "grid",
            "prompt_digest": self.dialect.digest,
            "segmenter": "demo",
            "min_pixels": MIN_PIXELS,
            "max_pixels": MAX_PIXELS,
        }
        (folder / "genseg.json").write_text(json.dumps(card, indent=2) + "\n")
