"""Generation for many questions with answers of unequal length: each picture is read once, and no row waits for another.

`generate` of transformers reads a picture anew for every question about it and for every draw, and its batch lasts as
long as its longest answer. Its continuous batching (`generate_batch`) takes token ids only, no pictures. So this loop:

- The prompt up to and with its picture is read once for all rows that share it, and its keys and values are copied.
- A row that is finished leaves the batch, and waiting rows take the places as soon as a quarter of them is free.
- Keys and values are appended in place (`policy/cache.py`), and a CPU reads them as they lie (`policy/attention.py`).
- Every completion has random numbers of its own, so that what is drawn does not depend on who else is in the batch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from transformers import Cache

from gensegcli.policy.attention import shared_heads
from gensegcli.policy.cache import GrowingLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image
    from transformers import PreTrainedModel

    from gensegcli.records import Sampling

    ReadPixels = Callable[[list[Image]], tuple[torch.Tensor, torch.Tensor]]
    """Pictures as the model takes them: patches of all of them (patches values), and the grid of each (P 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The part of a prompt that ends with its picture. Rows that hold the same object share the reading of it."""

    ids: tuple[int, ...]
    image: Image


@dataclass(slots=True, eq=False)
class Row:
    """One completion to be written.

    Attributes:
        head: prompt up to and with the picture.
        tail: token ids after the picture, at least one.
        limit: most tokens to write, at least one.
        dice: uniform numbers in [0, 1), one for each token; None is greedy.
        tokens: what has been written; the last is a stop token unless the limit was reached.
        logs: log-probabilities of the tokens, in nats at the sampling's temperature; None where nobody asks for them.
    """

    head: Head
    tail: tuple[int, ...]
    limit: int
    dice: torch.Tensor | None = None
    tokens: list[int] = field(default_factory=list)
    logs: list[float] | None = None


def dice_for(sampling: Sampling, name: str, draw: int, count: int) -> torch.Tensor | None:
    """The random numbers of one completion, settled by the seed, the name of its question and the number of its draw."""
    if sampling.temperature == 0:
        return None
    digest = blake2b(f"{sampling.seed}\0{draw}\0{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
    return torch.rand(count, generator=generator)


class Memory:
    """What a model has read of some sequences.

    Attributes:
        cache: keys and values of each layer (B heads T dim).
        mask: (B T), 1 where a token stands, 0 where only padding does.
        position: (B,), the rotary position of the next token. It is less than T: a picture of h × w tokens moves it
            by max(h, w).
    """

    def __init__(self, cache: Cache, mask: torch.Tensor, position: torch.Tensor) -> None:
        self.cache, self.mask, self.position = cache, mask, position

    def rows(self, index: Sequence[int]) -> Memory:
        """The rows of that index, as often as it names them, without columns that are padding in all of them."""
        chosen = torch.tensor(index, device=self.mask.device)
        mask = self.mask[chosen]
        start = int(mask.argmax(dim=1).min())
        cache = Cache(layers=[layer.rows(chosen, start) for layer in self.cache.layers])
        return Memory(cache, mask[:, start:], self.position[chosen])


def joined(first: Memory | None, second: Memory) -> Memory:
    """The rows of both, padded on the left to the same length."""
    if first is None:
        return second
    short = first.mask.shape[1] - second.mask.shape[1]
    pads = max(0, -short), max(0, short)

    cache = Cache(
        layers=[
            GrowingLayer.stacked(one, other) for one, other in zip(first.cache.layers, second.cache.layers, strict=True)
        ]
    )
    mask = torch.cat([F.pad(part.mask, (pad, 0)) for part, pad in zip((first, second), pads, strict=True)])
    return Memory(cache, mask, torch.cat([first.position, second.position]))


class Decoder:
    """Writes completions with a Qwen2.5-VL or Qwen3-VL of transformers.

    Args:
        model: in evaluation mode.
        read_pixels: the image processor.
        stop_ids: tokens that end a completion.
        sampling: temperature and `top_p` count.
        size: most rows at a time.
        never: tokens that are not written.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        read_pixels: ReadPixels,
        *,
        stop_ids: frozenset[int],
        sampling: Sampling,
        size: int,
        never: Sequence[int] = (),
    ) -> None:
        self.model, self.read_pixels = model, read_pixels
        self.stop_ids, self.sampling, self.size, self.never = stop_ids, sampling, size, list(never)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Every row once it is finished, in the order in which they are.

        Rows that share a head should stand together: it is forgotten once the next waiting row has another.
        """
        waiting = deque(rows)
        active: list[Row] = []
        memory: Memory | None = None
        heads: list[Head] = []
        pictures: Memory | None = None
        while waiting or active:
            free = self.size - len(active)
            if waiting and free >= max(1, self.size // 4):
                fresh = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                heads, pictures = self._read_heads(fresh, heads, pictures)
                read = pictures.rows([heads.index(row.head) for row in fresh])
                logits = self._read_tails(fresh, read)
                kept = [i for i, head in enumerate(heads) if waiting and waiting[0].head is head]
                heads, pictures = [heads[i] for i in kept], pictures.rows(kept) if kept else None
                memory = joined(memory, read)
                active += fresh
                self._write(fresh, logits)
            else:
                assert memory is not None
                self._write(active, self._step(active, memory))
            going = [i for i, row in enumerate(active) if not self._finished(row)]
            if len(going) < len(active):
                yield from (row for row in active if self._finished(row))
                memory = memory.rows(going) if going else None
                active = [active[i] for i in going]

    def _finished(self, row: Row) -> bool:
        return row.tokens[-1] in self.stop_ids or len(row.tokens) == row.limit

    # ---------------------------------------------------------------- reading

    def _read_heads(self, rows: Sequence[Row], heads: list[Head], pictures: Memory | None) -> tuple[list[Head], Memory]:
        """All heads of these rows, and the memory of each; what `pictures` does not hold yet is read in one batch."""
        new = [head for head in dict.fromkeys(row.head for row in rows) if head not in heads]
        if not new:
            assert pictures is not None
            return heads, pictures
        pixels, grids = self.read_pixels([head.image for head in new])
        ids, mask = _left_padded([head.ids for head in new], self.model.device)
        positions, _ = self.model.model.get_rope_index(
            ids,
            mm_token_type_ids=(ids == self.model.config.image_token_id).int(),
            image_grid_thw=grids,
            attention_mask=mask,
        )
        read = Memory(Cache(layer_class_to_replicate=GrowingLayer), mask[:, :0], positions.amax(dim=(0, 2)) + 1)
        self._forward(ids, mask, positions, read, pixel_values=pixels, image_grid_thw=grids)
        return heads + new, joined(pictures, read)

    def _read_tails(self, rows: Sequence[Row], memory: Memory) -> torch.Tensor:
        """Logits (B vocabulary) after the prompts of these rows, whose heads are in the memory; the tails enter it."""
        ids, mask = _left_padded([row.tail for row in rows], self.model.device)
        # In the padding the position is one before the tail's first; nothing attends there.
        positions = memory.position[:, None] + mask.cumsum(dim=1) - 1
        memory.position = memory.position + mask.sum(dim=1)
        return self._forward(ids, mask, positions.expand(3, -1, -1), memory)

    # ---------------------------------------------------------------- writing

    def _step(self, rows: Sequence[Row], memory: Memory) -> torch.Tensor:
        """Logits (B vocabulary) after the last written token of each row, which enters the memory."""
        ids = torch.tensor([[row.tokens[-1]] for row in rows], device=self.model.device)
        logits = self._forward(ids, torch.ones_like(ids), memory.position[None, :, None].expand(3, -1, -1), memory)
        memory.position = memory.position + 1
        return logits

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, memory: Memory, **picture: torch.Tensor
    ) -> torch.Tensor:
        memory.mask = torch.cat([memory.mask, mask], dim=1)
        with shared_heads(self.model):
            output = self.model(
                input_ids=ids,
                attention_mask=memory.mask,
                position_ids=positions,
                past_key_values=memory.cache,
                use_cache=True,
                logits_to_keep=1,
                **picture,
            )
        return output.logits[:, -1]

    def _write(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Give every row its next token."""
        logits[:, self.never] = float("-inf")
        if self.sampling.temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            dice = torch.stack([row.dice[len(row.tokens)] for row in rows if row.dice is not None])
            chosen = draw(logits, dice.to(logits.device), self.sampling)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.tokens.append(token)
        if any(row.logs is not None for row in rows):
            logs = (logits.float() / (self.sampling.temperature or 1.0)).log_softmax(dim=-1)
            for row, log in zip(rows, logs.gather(1, chosen[:, None])[:, 0].tolist(), strict=True):
                if row.logs is not None:
                    row.logs.append(log)


def draw(logits: torch.Tensor, dice: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """A token for each row: where the cumulative distribution, cut to its nucleus, passes the row's number.

    Args:
        logits: (B vocabulary).
        dice: (B,), uniform in [0, 1).
        sampling: temperature above 0; `top_p` keeps the fewest likeliest tokens that together have this probability.
    """
    likely, ids = torch.softmax(logits.float() / sampling.temperature, dim=-1), None
    if sampling.top_p < 1:  # only then: sorting takes longer than all the rest
        likely, ids = likely.sort(dim=-1, descending=True, stable=True)
    mass = likely.cumsum(dim=-1)
    last = (mass < mass[:, -1:].clamp_max(sampling.top_p)).sum(dim=-1, keepdim=True)
    height = dice[:, None] * mass.gather(1, last)
    place = (mass <= height).sum(dim=-1, keepdim=True).minimum(last)
    return (place if ids is None else ids.gather(1, place))[:, 0]


def _left_padded(sequences: Sequence[tuple[int, ...]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (B T). What stands in the padding does not matter: nothing attends to it."""
    width = max(map(len, sequences))
    ids = [(0,) * (width - len(sequence)) + tuple(sequence) for sequence in sequences]
    mask = [(0,) * (width - len(sequence)) + (1,) * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
