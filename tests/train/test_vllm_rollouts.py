"""Rollouts of vLLM (its CPU build serves) with the bundled miniature: whose weights write them, and when they are refused.

What vLLM said is held against the checkpoint of the step before, read by transformers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gensegcli.errors import ExitCode
from gensegcli.models import resolve_policy
from gensegcli.train.questions import one_token_a_picture
from gensegcli.train.runs import CHECKPOINTS, METRICS, ROLLOUTS, checkpoint_folder, read_steps
from tests.train.roll_out_with_vllm import CALLS, POLICY, REFUSALS, RUN, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM (or its CPU build) is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


class Child:
    """A process that trains; `wait` gives the folder in which it wrote."""

    def __init__(self, verb: str, scenes: Path, folder: Path) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "tests.train.roll_out_with_vllm", verb, str(scenes), str(folder)]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    def wait(self) -> Path:
        try:
            code = self.process.wait(900)
        finally:
            self.process.kill()
        assert code == 0, self.log.read_text()[-4000:]
        return self.folder


@pytest.fixture(scope="module")
def refusing(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child("refuse", scenes, tmp_path_factory.mktemp("refused") / "child")
    yield child
    child.process.kill()


@pytest.fixture(scope="module")
def trained(refusing: Child, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps, beside the other child."""
    return Child("train", scenes, tmp_path_factory.mktemp("trained") / "child").wait()


@pytest.fixture(scope="module")
def untied(trained: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a policy whose output head has weights of its own; after the other child, to spare memory."""
    return Child("untied", scenes, tmp_path_factory.mktemp("untied") / "child").wait()


@pytest.fixture(params=["trained", "untied"])
def rolled_out(request: pytest.FixtureRequest) -> Path:
    """Each of the two."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def calls(rolled_out: Path) -> list[dict[str, Any]]:
    """What the engine was asked and said: by the guard, and in each step."""
    return json.loads((rolled_out / CALLS).read_text())


@cache
def _policy(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder).image_processor


@torch.no_grad()
def _log_probabilities(folder: Path, prompt: list[int], image: Image, completion: list[int]) -> torch.Tensor:
    """Of every token after the prompt, by the weights in a folder: (T vocabulary)."""
    model, processor = _policy(folder)
    ids = torch.tensor([prompt + completion])
    logits = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        **processor(images=[image], return_tensors="pt"),
    ).logits
    return logits[0, len(prompt) - 1 : -1].log_softmax(-1)


def _weights(trained: Path, step: int) -> Path:
    """Of the policy after a step."""
    if step:
        return checkpoint_folder(trained / RUN, step)
    if (trained / POLICY).exists():
        return trained / POLICY
    start = resolve_policy("demo").path
    assert start is not None
    return start


def _told(trained: Path, call: dict[str, Any], number: int, weights: Path, key: str) -> list[torch.Tensor]:
    """Log-probabilities for each completion of a call."""
    from PIL import Image

    told = []
    for i, (prompt, tokens) in enumerate(zip(call["prompts"], call[key], strict=True)):
        with Image.open(trained / f"{number}-{i}.png") as image:
            told.append(_log_probabilities(weights, prompt, image, tokens))
    return told


def test_the_guard_asks_before_the_first_step_and_each_step_once(calls: list[dict[str, Any]]) -> None:
    assert [len(call["prompts"]) for call in calls] == [4] * (1 + STEPS)
    for call in calls:
        assert call["seen"] == call["prompts"], "vLLM has given pictures the tokens that they have in training"


def test_rollouts_have_the_probabilities_of_the_weights_of_their_step(
    rolled_out: Path, calls: list[dict[str, Any]]
) -> None:
    for number, call in enumerate(calls):
        step = max(number - 1, 0)  # the guard, and then the first step, come from the weights of the start
        ours = _told(rolled_out, call, number, _weights(rolled_out, step), "completions")
        for logs, tokens, theirs in zip(ours, call["completions"], call["logs"], strict=True):
            found = logs.gather(1, torch.tensor(tokens)[:, None])[:, 0]
            # Weights that were drawn wide make differences of rounding large in a token or two.
            wide = (rolled_out / POLICY).exists()
            assert found == pytest.approx(torch.tensor(theirs), abs=2e-2 if wide else 1e-3)
            assert float((found - torch.tensor(theirs)).abs().mean()) < 1e-3
        for other in {0, step - 1} - {step, -1}:
            different = _told(rolled_out, call, number, _weights(rolled_out, other), "completions")
            off = [
                (logs.gather(1, torch.tensor(tokens)[:, None])[:, 0] - torch.tensor(theirs)).abs().mean()
                for logs, tokens, theirs in zip(different, call["completions"], call["logs"], strict=True)
            ]
            assert max(off) > 0.02, f"written by the weights after step {step}, not {other}"


def test_greedy_completions_follow_the_weights(rolled_out: Path, calls: list[dict[str, Any]]) -> None:
    for number, call in enumerate(calls):
        for logs, tokens in zip(
            _told(rolled_out, call, number, _weights(rolled_out, max(number - 1, 0)), "greedy"),
            call["greedy"],
            strict=True,
        ):
            chosen = logs.gather(1, torch.tensor(tokens)[:, None])[:, 0]
            assert torch.all(chosen >= logs.max(dim=1).values - 1e-4)
    number = STEPS
    before = _told(rolled_out, calls[number], number, _weights(rolled_out, 0), "greedy")
    picks = [logs.argmax(dim=1).tolist() for logs in before]
    assert picks != calls[number]["greedy"], "the start would have written something else"


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(trained: Path, scenes: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained / RUN, again / RUN)
    # As after a kill in the last step: its checkpoint is not whole, and there is no model.
    shutil.rmtree(again / RUN / "model")
    kept = (again / RUN / CHECKPOINTS).read_text().splitlines(keepends=True)
    (again / RUN / CHECKPOINTS).write_text("".join(kept[:-1]))
    assert read_steps(again / RUN / CHECKPOINTS)[-1]["step"] == STEPS - 1
    Child("train", scenes, again).wait()
    assert read_steps(again / RUN / ROLLOUTS) == read_steps(trained / RUN / ROLLOUTS)
    ours, theirs = (read_steps(folder / RUN / METRICS)[-1] for folder in (again, trained))
    assert ours["step"] == theirs["step"] == STEPS
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


@pytest.fixture(scope="module")
def refusals(refusing: Child, trained: Path) -> dict[str, dict[str, Any]]:
    return json.loads((refusing.wait() / REFUSALS).read_text())


def test_an_engine_that_sees_pictures_at_another_size_is_refused(refusals: dict[str, dict[str, Any]]) -> None:
    assert refusals["size"]["code"] == ExitCode.ENVIRONMENT
    assert "rollout engine and trainer disagree" in refusals["size"]["message"]
    assert "picture tokens in the rollout engine" in refusals["size"]["message"]


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("nobody", "can't be reached"),
        ("not for development", "VLLM_SERVER_DEV_MODE=1"),
        ("another model", "it serves Qwen/Qwen3-VL-4B-Instruct, and "),
        ("short", "its context has 100 tokens, prompts and completions 152"),
        ("no transfer", "no weight-transfer engine"),
        ("no GPU", "needs a CUDA device"),
    ],
)
def test_servers_that_cannot_be_used_are_told_in_a_line(
    refusals: dict[str, dict[str, Any]], server: str, words: str
) -> None:
    error = refusals[server]
    assert error["code"] == ExitCode.ENVIRONMENT
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert "vllm serve" in error["hint"]
    assert '"max_pixels": 16000' in error["hint"]


def test_a_server_needs_an_address(refusals: dict[str, dict[str, Any]]) -> None:
    assert refusals["no address"]["code"] == ExitCode.USAGE


def test_pictures_keep_one_token() -> None:
    assert one_token_a_picture([5, 5, 1, 2, 2, 5, 3, 5, 5], token=5) == [5, 1, 2, 2, 5, 3, 5]
