"""Supervised learning from true answers: the form is learned before any reward is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import SequentialSampler
from trl import SFTTrainer

from gensegcli.dialects.frames import rounded
from gensegcli.dialects.grammar import TAGS
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import pixel_to_grid
from gensegcli.geometry.keypoints import mine_positive
from gensegcli.policy.frame import frame_for
from gensegcli.records import Answer, Instance
from gensegcli.train.data import POINTS
from gensegcli.train.questions import Questions
from gensegcli.train.trainer import RunTrainer

if TYPE_CHECKING:
    from torch.utils.data import Sampler

    from gensegcli.records import Sample, Target


class Demonstrations(Questions):
    """Rows with the answer that is to be learned beside the question."""

    columns = ("prompt", "completion", "image")

    def _row(self, sample: Sample) -> dict[str, Any]:
        row = super()._row(sample)
        return {**row, "completion": [{"role": "assistant", "content": self.answer(sample)}]}

    def answer(self, sample: Sample) -> str:
        """The completion of a perfect policy, its numbers rounded as models write them."""
        frame = frame_for(self.entry, sample.size)
        shown = demonstration(sample, negatives=self.dialect.asks_negatives)
        to = self.dialect.rounding if frame is None else 1
        return self.dialect.render(rounded(shown, frame, to), frame=frame)


def demonstration(sample: Sample, *, negatives: bool = False) -> Answer:
    """The true answer, with the think text of the data set or, where it has none, one sentence that says what is true.

    Args:
        sample: with two points, or a mask, for each object.
        negatives: whether background points are part of it.
    """
    think = sample.think or _plain_thought(sample)
    for tag in TAGS:
        think = think.replace(tag, "")
    return Answer(
        tuple(
            Instance(target.box, _points(sample, target), target.negatives[:2] if negatives else ())
            for target in sample.targets
        ),
        think.strip(),
    )


class DemonstrationTrainer(RunTrainer, SFTTrainer):
    """`SFTTrainer` that keeps to our order of the samples and writes our files."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


def _points(sample: Sample, target: Target) -> tuple[Any, ...]:
    if len(target.points) >= POINTS or target.mask is None:
        return target.points[:POINTS]
    return tuple(pixel_to_grid(point, sample.size) for point in mine_positive(rle.decode(target.mask)))


def _plain_thought(sample: Sample) -> str:
    if not sample.targets:
        return f"Nothing in the picture matches: {sample.query}."
    centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in (target.box for target in sample.targets)]
    places = ", ".join(f"({x:.0f}, {y:.0f})" for x, y in centres)
    found = "one object" if len(centres) == 1 else f"{len(centres)} objects"
    return f"I look for: {sample.query}. {found.capitalize()} in the picture match, centred at {places}."
