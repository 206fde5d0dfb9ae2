"""From samples to the rows that a trainer asks its policy: picture as the model sees it, question as in prediction."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from gensegcli.errors import GensegError
from gensegcli.images import read_image
from gensegcli.policy.frame import fit_picture, input_size
from gensegcli.policy.prompting import control_tokens, neutralise, prompt_length, render_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from PIL.Image import Image
    from transformers import ProcessorMixin

    from gensegcli.dialects.base import Dialect
    from gensegcli.families import PolicyEntry
    from gensegcli.records import Sample, Size
    from gensegcli.train.data import Samples


class Questions:
    """Rows by number of the sample. Those of the last few steps are kept: a trainer reads each many times.

    Args:
        samples: by number.
        dialect: how they are asked.
        entry: conventions of the policy.
        processor: of the policy.
        most_tokens: longest prompt.
        keep: rows held at a time.
    """

    columns: tuple[str, ...] = ("prompt", "image", "sample")
    """What a trainer sees of a row."""

    def __init__(
        self,
        samples: Samples,
        dialect: Dialect,
        entry: PolicyEntry,
        processor: ProcessorMixin,
        *,
        most_tokens: int,
        keep: int = 32,
    ) -> None:
        self.samples, self.dialect, self.entry, self.processor = samples, dialect, entry, processor
        self.most_tokens, self.keep = most_tokens, keep
        self.control = control_tokens(processor.tokenizer)
        self._held: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`prompt` (one user turn), `image` and `sample`.

        Raises:
            GensegError: the picture cannot be read, or the prompt is too long.
        """
        if number not in self._held:
            self._held[number] = self._row(self.samples[number])
        self._held.move_to_end(number)
        while len(self._held) > self.keep:
            self._held.popitem(last=False)
        return self._held[number]

    def _row(self, sample: Sample) -> dict[str, Any]:
        image = self.picture(sample)
        self.check_length(sample, image)
        return {"prompt": [{"role": "user", "content": self.text(sample)}], "image": image, "sample": sample}

    def picture(self, sample: Sample) -> Image:
        """The picture as the policy sees it."""
        try:
            return fit_picture(self.entry, read_image(sample.image))
        except GensegError as error:
            raise GensegError(f"sample {sample.id}: {error.message}", hint=error.hint, code=error.code) from error

    def text(self, sample: Sample) -> str:
        """The question, unable to leave the user's turn."""
        return neutralise(self.dialect.ask(sample.query), self.control)

    def check_length(self, sample: Sample, image: Image) -> None:
        """Refuse a prompt that is too long: cutting it would cut into the picture's tokens or the question."""
        prompt = render_prompt(self.processor, self.text(sample))
        length = prompt_length(self.processor, self.entry, prompt, image)
        if length > self.most_tokens:
            raise GensegError(
                f"sample {sample.id}: its prompt has {length} tokens, and train.max_prompt_tokens is {self.most_tokens}",
                hint="raise train.max_prompt_tokens, or lower model.max_pixels",
            )

    def dataset(self, order: list[int]) -> Dataset:
        """The rows in an order, as TRL takes them; each made when it is read."""
        from datasets import Dataset
        from datasets.utils.logging import get_logger

        # It would warn that rows made by a method cannot be cached: they are not to be.
        get_logger("datasets.fingerprint").setLevel("ERROR")
        made = Dataset.from_dict({"number": order})
        made.set_transform(self._transform)
        return made

    def _transform(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [self[number] for number in batch["number"]]
        return {key: [row[key] for row in rows] for key in self.columns}


def picture_tokens(entry: PolicyEntry, size: Size) -> int:
    """How many tokens stand for a picture of `size` in a prompt."""
    width, height = input_size(entry, size)
    return width * height // entry.factor**2


def one_token_a_picture(ids: Sequence[int], token: int) -> list[int]:
    """A prompt with a single token in place of those of each picture.

    >>> one_token_a_picture([1, 5, 5, 5, 2, 5, 5], token=5)
    [1, 5, 2, 5]
    """
    return [one for i, one in enumerate(ids) if one != token or i == 0 or ids[i - 1] != token]
