"""Which engine runs a model, and the sentence that says why."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gensegcli import policy as policies
from gensegcli.errors import ExitCode, GensegError
from gensegcli.models import resolve_policy
from gensegcli.policy import BackendStatus, EngineOptions, available_backends, choose_backend, load_policy

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Say which engines are ready, and whether there is a CUDA device."""

    def say(*, transformers: bool = True, vllm: bool = True, cuda: bool = True) -> None:
        import torch

        for name, ready in (("transformers", transformers), ("vllm", vllm)):
            status = BackendStatus(name, ready, f"{name} 1.2" if ready else f"not installed: {name}", "install it")
            row = replace(policies.BACKENDS[name], status=lambda status=status: status)
            monkeypatch.setitem(policies.BACKENDS, name, row)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)

    return say


def test_every_line_of_the_rule(installed, checkpoint: Path, tmp_path: Path) -> None:
    model, plain = resolve_policy(str(checkpoint)), EngineOptions()
    installed()
    assert choose_backend(model, plain) == ("vllm", "vllm: CUDA device and vllm 1.2 found")
    assert choose_backend(model, EngineOptions(base_url="http://h/v1"))[0] == "openai"
    assert choose_backend(model, EngineOptions(base_url="http://h/v1", answers=tmp_path))[0] == "scripted"
    bundled = replace(model, entry=resolve_entry_bundled(model.entry))
    assert choose_backend(bundled, plain)[0] == "transformers"
    installed(cuda=False)
    assert choose_backend(model, plain) == ("transformers", "transformers: no CUDA device (transformers 1.2)")
    installed(vllm=False)
    name, why = choose_backend(model, plain)
    assert (name, why) == ("transformers", "transformers: CUDA device found, but not installed: vllm")


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_device_that_vllm_cannot_be_told_is_not_ignored(installed, checkpoint: Path, device: str) -> None:
    installed()
    model, options = resolve_policy(str(checkpoint)), EngineOptions(device=device)
    why = f"transformers: device {device} was asked for, which vllm cannot be told"
    assert choose_backend(model, options) == ("transformers", why)
    assert choose_backend(model, EngineOptions(device="cuda"))[0] == "vllm"
    # Also where it is missing: installing it would not help.
    for vllm in (True, False):
        installed(vllm=vllm)
        with pytest.raises(GensegError, match=f"backend vllm does not take device '{device}'") as caught:
            load_policy(model, backend="vllm", options=options)
        assert "--backend transformers" in caught.value.hint
        assert caught.value.code is ExitCode.USAGE


def resolve_entry_bundled(entry):
    from gensegcli.models import POLICIES

    return replace(entry, source=POLICIES["demo"].source)


def test_a_missing_engine_names_the_command(installed, checkpoint: Path) -> None:
    installed(transformers=False)
    with pytest.raises(GensegError, match="backend transformers: not installed: transformers") as caught:
        load_policy(str(checkpoint))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.hint == "install it"


def test_an_unknown_engine_names_the_nearest(checkpoint: Path) -> None:
    with pytest.raises(GensegError, match="unknown backend 'vlm'") as caught:
        load_policy(str(checkpoint), backend="vlm")
    assert "did you mean vllm?" in caught.value.hint


def test_readiness_is_what_is_installed() -> None:
    for status in available_backends():
        if status.name in {"vllm", "openai"}:
            assert status.ready == (importlib.util.find_spec(status.name) is not None)
        assert status.ready or status.cure.startswith("pip install")
    assert [status.name for status in available_backends()] == ["transformers", "vllm", "openai", "scripted"]


def test_loading_says_why(checkpoint: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"text": "hello"}\n')
    policy, why = load_policy(None, options=EngineOptions(answers=answers))
    assert policy.id == str(answers)
    assert why == f"scripted: answers are read from {answers}"
    policy, why = load_policy(str(checkpoint), backend="transformers", options=EngineOptions(device="cpu"))
    assert (policy.id, why) == (str(checkpoint), "transformers: asked for")
    assert policy.revision is not None
    policy.close()
    with pytest.raises(GensegError, match="needs a file of answers"):
        load_policy(None, backend="scripted")
    with pytest.raises(GensegError, match="backend transformers needs a model"):
        load_policy(None, backend="transformers")
