"""Keys and values of what a model has read, in buffers with room to grow: a new token is written beside the old ones.

transformers' own `DynamicCache` copies everything for each token, and its `StaticCache` needs the final length at the
start and lets the model attend to the room that is still empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch

ROOM = 64
"""Tokens for which a buffer has room when it is made: so many are written between two copies."""


class GrowingLayer(DynamicLayer):
    """One layer's `keys` and `values`, each (B heads T dim): views of the front of buffers (B heads T+room dim)."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B heads t dim) of each; all keys and values."""
        fresh = key_states, value_states
        if not self.is_initialized:
            self.lazy_initialization(*fresh)
        length = self.get_seq_length()
        end = length + key_states.shape[2]
        if not self._buffers or end > self._buffers[0].shape[2]:
            old, self._buffers = (self.keys, self.values), [_buffer(part, len(part), end) for part in fresh]
            if length:
                for buffer, part in zip(self._buffers, old, strict=True):
                    buffer[:, :, :length] = part
        for buffer, part in zip(self._buffers, fresh, strict=True):
            buffer[:, :, length:end] = part
        self._show(end)
        return self.keys, self.values

    def rows(self, index: torch.Tensor, start: int) -> Self:
        """A layer of its own with the rows of that index, from column `start` on."""
        made = type(self)()
        length = self.get_seq_length() - start
        for part in (self.keys, self.values):
            buffer = _buffer(part, len(index), length)
            buffer[:, :, :length] = part[index, :, start:]
            made._buffers.append(buffer)
        made._show(length)
        return made

    @classmethod
    def stacked(cls, first: Self, second: Self) -> Self:
        """A layer of its own with the rows of both; the shorter has zeros on its left."""
        made = cls()
        length = max(first.get_seq_length(), second.get_seq_length())
        for parts in ((first.keys, second.keys), (first.values, second.values)):
            buffer = _buffer(parts[0], sum(map(len, parts)), length)
            for part, place in zip(parts, (buffer[: len(parts[0])], buffer[len(parts[0]) :]), strict=True):
                pad = length - part.shape[2]
                place[:, :, :pad] = 0  # weighted with 0 all the same, and 0 times NaN is NaN
                place[:, :, pad:length] = part
            made._buffers.append(buffer)
        made._show(length)
        return made

    def _show(self, length: int) -> None:
        keys, values = self._buffers
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]


def _buffer(like: torch.Tensor, rows: int, length: int) -> torch.Tensor:
    """(rows heads length+ROOM dim), its content whatever lies there."""
    return like.new_empty(rows, like.shape[1], length + ROOM, like.shape[3])
