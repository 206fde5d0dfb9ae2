"""`genseg doctor`, `genseg models` and `genseg demo`."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gensegcli import doctor
from gensegcli.demo import demo_task
from gensegcli.families import BUNDLED
from gensegcli.models import POLICIES, SEGMENTERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUNDLED_IS_THERE = all((BUNDLED / part / "model.safetensors").is_file() for part in ("policy", "segmenter"))
needs_bundled = pytest.mark.skipif(not BUNDLED_IS_THERE, reason="the bundled weights are not in this tree")


def test_models_lists_every_alias_with_what_is_cached(
    genseg: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    repo = place / "hub" / "models--Qwen--Qwen3-VL-8B-Instruct"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").write_text('{"model_type": "qwen3_vl"}')
    rows = {(row["kind"], row["alias"]): row for row in json.loads(genseg("models", "--json").stdout)}
    assert {alias for kind, alias in rows if kind == "policy"} == set(POLICIES)
    assert {alias for kind, alias in rows if kind == "segmenter"} == set(SEGMENTERS)
    assert not rows["policy", "qwen3-vl-8b"]["cached"], "config without weights: an interrupted download"
    (repo / "snapshots" / commit / "model.safetensors").write_bytes(b"")
    rows = {(row["kind"], row["alias"]): row for row in json.loads(genseg("models", "--json").stdout)}
    assert rows["policy", "qwen3-vl-8b"]["cached"]
    assert not rows["policy", "qwen3-vl-4b"]["cached"]
    assert rows["policy", "qwen2.5-vl-7b"]["coordinates"] == "resized-pixels"
    table = genseg("models")
    assert table.stderr == ""
    line = next(line for line in table.stdout.splitlines() if line.startswith("qwen3-vl-8b"))
    assert line.split() == ["qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", "8.8B", "genseg", "grid", "yes"]


def test_doctor_reports_what_is_there(genseg: Callable[..., Any], place: Path) -> None:
    result = genseg("doctor", "--json")
    report = json.loads(result.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert result.exit_code == (0 if report["demo_ready"] else 3)
    assert report["versions"]["genseg"]
    assert report["versions"]["numpy"] == np.__version__
    assert checks["backend scripted"]["ready"]
    assert not checks["hub"]["ready"], "the tests run offline"
    assert checks["hub"]["found"].startswith("offline by HF_HUB_OFFLINE")
    assert checks["cache"]["found"] == str(place / "hub")
    assert all(check["ready"] or check["cure"] for check in checks.values())
    text = genseg("doctor").stdout
    assert text.splitlines()[0].split() == ["what", "ready", "found", "to", "mend"]


def test_doctor_finds_out_that_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (check,) = [check for check in doctor.examine().checks if check.name == "hub"]
    assert not check.ready
    assert check.found.startswith("127.0.0.1:9 not reachable (")


def _hub_check(monkeypatch: pytest.MonkeyPatch, **environment: str) -> doctor.Check:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return doctor._hub()


def test_doctor_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        environment = {"HF_ENDPOINT": "https://hub.invalid", "https_proxy": f"http://127.0.0.1:{port}"}
        there = _hub_check(monkeypatch, **environment)
    assert (there.ready, there.found) == (True, f"proxy 127.0.0.1:{port} reachable")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:port", "http://127.0.0.1:99999", "nonsense"])
def test_doctor_says_so_of_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    pytest.importorskip("huggingface_hub")
    check = _hub_check(monkeypatch, HF_ENDPOINT=endpoint)
    assert not check.ready
    assert "not an address" in check.found


def test_doctor_says_whether_the_default_models_are_cached(place: Path) -> None:
    def default() -> doctor.Check:
        return next(check for check in doctor.examine().checks if check.name == "default models")

    missing = default()
    assert not missing.ready
    assert missing.found == "not cached: Qwen/Qwen3-VL-4B-Instruct, facebook/sam2-hiera-large"
    assert missing.cure.startswith("hf download Qwen/Qwen3-VL-4B-Instruct && hf download facebook/sam2-hiera-large")
    for repo, model_type in (("Qwen--Qwen3-VL-4B-Instruct", "qwen3_vl"), ("facebook--sam2-hiera-large", "sam2_video")):
        folder = place / "hub" / f"models--{repo}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (folder / "snapshots" / ("0" * 40) / "config.json").write_text(json.dumps({"model_type": model_type}))
        (folder / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"")
    assert default().found == "qwen3-vl-4b and sam2-large cached; genseg predict"
    assert default().ready


@pytest.mark.parametrize("card", [False, True])
def test_doctor_speaks_of_nvidia_only_where_there_is_such_a_card(monkeypatch: pytest.MonkeyPatch, card: bool) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "_nvidia", lambda: card)
    check = doctor._device()
    assert not check.ready
    assert check.cure
    assert ("NVIDIA" in f"{check.found} {check.cure}") is card


@pytest.mark.parametrize("seed", range(5))
def test_the_demo_asks_for_what_is_there_and_for_what_is_not(seed: int) -> None:
    scene, references = demo_task(seed)
    again, same = demo_task(seed)
    assert np.array_equal(scene.image, again.image)
    assert references == same
    assert len(references) == 6
    assert sum(not reference.matches for reference in references) == 2
    assert len({reference.expression for reference in references}) == 6


@pytest.mark.skipif(BUNDLED_IS_THERE, reason="the bundled weights are there")
def test_the_demo_says_that_the_models_are_missing(genseg: Callable[..., Any]) -> None:
    result = genseg("demo", "-q")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: demo: the bundled model is missing")


@needs_bundled
@pytest.mark.slow
def test_the_demo_runs_and_is_labelled_as_what_it_is(genseg: Callable[..., Any], place: Path) -> None:
    result = genseg("demo")
    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["query", "answer", "truth", "IoU"]
    assert len(rows) == 6
    assert "trained on generated scenes" in result.stderr
    right = sum(float(row.split()[-1]) >= 0.5 for row in rows)
    closing = result.stderr.splitlines()[-2]
    assert closing.startswith(f"{right} of 6 answers are right (IoU of at least 0.5); on 1000 scenes it never saw")
    card = (BUNDLED / "policy" / "README.md").read_text(encoding="utf-8")
    for measure, shown in (("target mIoU", "mIoU of {} %"), ("no-target accuracy", "says so in {} %")):
        (value,) = re.findall(rf"^\| {measure}, % \| ([0-9.]+)", card, re.MULTILINE)
        assert shown.format(value) in closing
    overlays = list((place / "runs" / "demo" / "overlay").iterdir())
    assert len(overlays) == 6
    for path in overlays:
        with Image.open(path) as picture:
            picture.verify()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize(
    "command", [["models"], ["prep", "ls"], ["doctor"], ["predict", "photos/0.png", "dog", "--dry-run"]]
)
def test_tables_fit_the_terminal(
    genseg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: list[str], width: int
) -> None:
    monkeypatch.setattr("gensegcli.cli.tables.terminal_width", lambda _: width)
    monkeypatch.setattr("gensegcli.cli.predict_run.terminal_width", lambda _: width)
    whole = genseg(*command).stdout
    assert whole
    # A word that is wider than the terminal (a path, an address) stays whole in a line of its own.
    assert [line for line in whole.splitlines() if len(line) > width and max(map(len, line.split())) < width // 2] == []
    assert "…" not in whole
