"""transformers, vLLM in process and `vllm serve` behind the OpenAI client say the same, token by token."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gensegcli.models import resolve_policy
from gensegcli.policy import EngineOptions, load_policy
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import render_prompt
from gensegcli.records import Completion, FinishReason, Sampling
from tests.policy.answer_with_vllm import MAX_TOKENS
from tests.policy.pictures import mixed_questions
from tests.policy.vllm_server import START, serving_vllm, vllm_environment

if TYPE_CHECKING:
    from pathlib import Path

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM (or its CPU build) is not installed"
)
GREEDY = Sampling(max_tokens=MAX_TOKENS)


def _expected(checkpoint: Path) -> list[list[Completion]]:
    policy, _ = load_policy(str(checkpoint), backend="transformers", options=EngineOptions(device="cpu"))
    answers = policy.generate(mixed_questions(), GREEDY)
    policy.close()
    return answers


def test_no_greedy_choice_is_a_near_tie(checkpoint: Path) -> None:
    """What makes agreement a fair demand: every chosen token leads by far more than float32 noise (about 1e-5)."""
    from gensegcli.policy.hf import TransformersPolicy

    policy = TransformersPolicy(resolve_policy(str(checkpoint)), EngineOptions(device="cpu"))
    for question in mixed_questions():
        image = fit_picture(policy.entry, question.image)
        inputs = policy.processor(
            text=[render_prompt(policy.processor, question.text)], images=[[image]], return_tensors="pt"
        )
        made = policy.model.generate(
            **inputs, do_sample=False, max_new_tokens=MAX_TOKENS, output_logits=True, return_dict_in_generate=True
        )
        leads = [(top[0, 0] - top[0, 1]).item() for top in (logits.topk(2).values for logits in made.logits)]
        assert len(leads) == MAX_TOKENS
        assert min(leads) > 2e-3
    policy.close()


@pytest.mark.slow
@needs_vllm
@pytest.mark.timeout(1800)
def test_vllm_in_process(checkpoint: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "said.json", tmp_path / "vllm.log"
    command = [sys.executable, "-m", "tests.policy.answer_with_vllm", str(checkpoint), str(out)]
    with log.open("w") as file:
        done = subprocess.run(command, env=vllm_environment(), stdout=file, stderr=file, timeout=START, check=False)
    assert done.returncode == 0, log.read_text()[-4000:]
    said = {name: [[_revive(a) for a in row] for row in rows] for name, rows in json.loads(out.read_text()).items()}
    assert said["greedy"] == _expected(checkpoint)
    assert [len(row) for row in said["drawn"]] == [2, 2]
    assert len({answer.text for row in said["drawn"] for answer in row}) == 4
    assert said["drawn"] == said["again"]


@pytest.mark.slow
@needs_vllm
@pytest.mark.timeout(1800)
def test_vllm_serve(checkpoint: Path, tmp_path: Path) -> None:
    with serving_vllm(checkpoint, tmp_path / "vllm.log") as url:
        policy, why = load_policy(resolve_policy(str(checkpoint)), options=EngineOptions(base_url=url))
        assert why.startswith("openai: a server was given")
        assert policy.id == "tiny"
        answers = policy.generate(mixed_questions(), GREEDY)
        several = policy.generate(mixed_questions()[:1], Sampling(temperature=1.0, n=2, max_tokens=8, seed=1))
        policy.close()
    assert answers == _expected(checkpoint)
    assert len({answer.text for answer in several[0]}) == 2


def _revive(record: dict) -> Completion:
    return Completion(**{**record, "finish": FinishReason(record["finish"])})
