"""Policies whose output head has weights of its own (Qwen3-VL 8B and 32B, Qwen2.5-VL 7B) learn, in two processes, what they
learn in one; and what comes after: checkpoints, merged adapters, resumed runs, held-out answers.

Tolerances: two processes add the same numbers in another order. In fp32 that makes a relative difference of up to 5e-6 in
the gradient of a weight, and more after an update, as AdamW divides by the gradient's size. A head whose gradients are
not added up over processes is wrong by 0.3 and more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import gensegcli
from gensegcli.errors import GensegError
from gensegcli.sources.prepared import read_prepared
from gensegcli.train import sharding
from gensegcli.train.memory import estimate
from gensegcli.train.runs import METRICS, ROLLOUTS, read_steps
from tests.checkpoints import BUILDERS
from tests.train import untied
from tests.train.conftest import run_two_processes
from tests.train.untied import BEGUN, GRADIENTS, HELD, RUNS, SAID, STEPS, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    One = Callable[[str], Path]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    # Of torch and transformers, about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
CLOSE, AFTER_AN_UPDATE = 3e-5, 2e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of each family; their heads are not the embedding's."""
    folder = tmp_path_factory.mktemp("models")
    for family, build in BUILDERS.items():
        build(folder / family)
    return folder


@pytest.fixture(scope="module")
def one(scenes: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> One:
    """The runs by this process alone."""
    folder = tmp_path_factory.mktemp("one")

    def ran(name: str) -> Path:
        if not (folder / name).exists():
            if name == TEXT:
                untied.train_text(folder / name)
            else:
                untied.train(name, scenes, models, folder / name)
        return folder / name

    return ran


@pytest.fixture(scope="module")
def two(scenes: Path, models: Path, one: One, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two processes."""
    folder = tmp_path_factory.mktemp("two")
    untied.cut_back(one("sft"), folder / BEGUN)
    run_two_processes("tests.train.untied", str(scenes), str(models), str(folder))
    return folder


def _farthest(ours: Path, theirs: Path) -> float:
    """The largest relative difference among tensors of two files; what is next to nothing in both is equal."""
    first, second = load_file(ours), load_file(theirs)
    assert first.keys() == second.keys()
    least = 1e-6 * float(torch.stack([one.norm() for one in second.values()]).norm())
    far = {
        name: float((first[name].double() - second[name].double()).norm() / second[name].norm().clamp(min=least))
        for name in second
    }
    return max(far.values())


def _weights(folder: Path) -> Path:
    return folder / "model.safetensors"


@pytest.mark.parametrize("name", [*RUNS, TEXT])
def test_every_gradient_is_that_of_one_process(name: str, two: Path, one: One) -> None:
    found = [_farthest(two / name / path.name, path) for path in sorted(one(name).glob(GRADIENTS.format("*")))]
    assert len(found) == (1 if name == TEXT else STEPS)
    assert found[0] < CLOSE
    assert max(found) < AFTER_AN_UPDATE


@pytest.mark.parametrize("family", ["sft", "sft-2.5"])
def test_the_fused_head_learns_what_a_head_that_is_called_learns(family: str, two: Path, one: One) -> None:
    for folder in (two, one(family).parent):
        one(f"{family}-plain")
        assert (
            _farthest(folder / family / GRADIENTS.format(1), folder / f"{family}-plain" / GRADIENTS.format(1)) < CLOSE
        )


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_measure_and_export_what_one_does(name: str, two: Path, one: One) -> None:
    for mine, yours in zip(*(read_steps(folder / METRICS) for folder in (two / name, one(name))), strict=True):
        assert mine["loss"] == pytest.approx(yours["loss"], rel=1e-4, abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(yours["grad_norm"], rel=1e-4)
        assert mine["grad_norm"] > 0.1, "something was to be learned"
    for folder in ("model", "checkpoint-2"):
        assert _farthest(_weights(two / name / folder), _weights(one(name) / folder)) < AFTER_AN_UPDATE
    held = [json.loads((two / name / HELD.format(rank)).read_text()) for rank in range(2)]
    assert sum(own for own, _ in held) == held[0][1]
    assert held[0][0] == pytest.approx(held[0][1] / 2, rel=0.05)


@pytest.mark.parametrize("name", ["sft", "grpo-2.5"])
def test_the_exported_head_is_its_own_and_was_trained(name: str, two: Path, models: Path) -> None:
    exported = AutoModelForImageTextToText.from_pretrained(two / name / "model", dtype=torch.float32)
    assert not exported.config.tie_word_embeddings
    head, embedding = exported.get_output_embeddings().weight, exported.get_input_embeddings().weight
    assert head.data_ptr() != embedding.data_ptr()
    start = load_file(_weights(models / RUNS[name][0]))
    assert not torch.equal(head, start["lm_head.weight"])
    assert torch.equal(head, load_file(_weights(two / name / "checkpoint-2"))["lm_head.weight"])


@pytest.mark.parametrize("name", ["sft-lora", "grpo-lora"])
def test_adapters_are_merged_as_peft_does(name: str, two: Path, models: Path) -> None:
    start = models / RUNS[name][0]
    base = AutoModelForImageTextToText.from_pretrained(start, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, two / name / "checkpoint-2" / "default").merge_and_unload().state_dict()
    exported, before = (
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (two / name / "model", start)
    )
    assert exported.keys() == merged.keys()
    for weight in exported:
        torch.testing.assert_close(exported[weight], merged[weight], atol=1e-6, rtol=1e-5)
    assert torch.equal(exported["lm_head.weight"], before["lm_head.weight"]), "a head has no adapters"
    assert any(not torch.equal(exported[weight], before[weight]) for weight in before)


def test_a_run_goes_on_in_any_number_of_processes(
    two: Path, one: One, scenes: Path, models: Path, tmp_path: Path
) -> None:
    alone = untied.cut_back(two / "sft", tmp_path / "alone")
    untied.train("sft", scenes, models, alone)
    for ours in (two / BEGUN, alone):
        assert [row["step"] for row in read_steps(ours / METRICS)] == [1, 2]
        assert _farthest(ours / GRADIENTS.format(2), one("sft") / GRADIENTS.format(2)) < AFTER_AN_UPDATE
        assert _farthest(_weights(ours / "model"), _weights(one("sft") / "model")) < AFTER_AN_UPDATE


@pytest.mark.parametrize("name", ["sft", "sft-lora"])
def test_held_out_answers_are_those_of_the_checkpoint(name: str, two: Path, scenes: Path) -> None:
    """Greedy answers of weights gathered from two processes, three of five questions on the first."""
    parts = [json.loads((two / name / SAID.format(rank)).read_text()) for rank in range(2)]
    assert [len(part) for part in parts] == [3, 2]
    said = {row["asked"]: row["answer"] for part in parts for row in part}
    with gensegcli.load(str(two / name / "checkpoint-2"), device="cpu", segmenter="demo", max_tokens=16) as pipeline:
        asked = {pipeline.dialect.ask(sample.query): sample for sample in read_prepared(scenes)}
        answers = {text: pipeline.predict(asked[text].image, asked[text].query).raw for text in said}
    assert answers == said


@pytest.mark.parametrize("name", ["grpo", "grpo-2.5"])
def test_the_reference_is_the_start_with_its_head(name: str, two: Path, one: One) -> None:
    ours, theirs = (read_steps(folder / METRICS) for folder in (two / name, one(name)))
    assert ours[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert ours[1]["kl"] > 1e-5
    assert ours[1]["kl"] == pytest.approx(theirs[1]["kl"], rel=0.05)
    texts = [[row["text"] for row in read_steps(folder / ROLLOUTS)] for folder in (two / name, one(name))]
    assert texts[0] == texts[1]


def test_an_untied_head_is_counted(scenes: Path, models: Path) -> None:
    plan = untied.plan("sft", scenes, models)
    weights = load_file(_weights(models / "qwen3_vl"))
    assert "lm_head.weight" in weights
    assert estimate(plan, 1).parts["weights"] == 4 * sum(weight.numel() for weight in weights.values())


def test_a_head_without_a_norm_before_it_is_refused(models: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(models / "qwen3_vl")
    model.model.language_model.norm = torch.nn.Identity()
    with pytest.raises(GensegError, match="no norm found before its output head") as caught:
        sharding.join_head(model, None)  # type: ignore[arg-type]
    assert caught.value.hint == "train it in one process"
