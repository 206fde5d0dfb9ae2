from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import gensegcli
from gensegcli.dialects import get_dialect
from gensegcli.dialects.custom import with_prompt
from gensegcli.errors import ExitCode, GensegError
from gensegcli.records import Answer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scripted(tmp_path: Path) -> dict[str, Any]:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"text": '<think>.</think><answer>{"no_target": true}</answer>'}) + "\n")
    return {"backend": "scripted", "answers": answers, "segmenter": "boxfill"}


def test_the_public_names_are_there_and_importing_them_is_cheap() -> None:
    assert set(gensegcli.__all__) <= set(dir(gensegcli))
    for name in gensegcli.__all__:
        assert getattr(gensegcli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        gensegcli.laod  # noqa: B018
    code = "import sys, gensegcli; print(*sorted({'numpy', 'PIL', 'pydantic', 'torch', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_load_joins_what_the_names_mean(scripted: dict[str, Any]) -> None:
    with gensegcli.load("qwen2.5-vl-3b", mode="box", max_tokens=7, **scripted) as pipeline:
        assert pipeline.entry.alias == "qwen2.5-vl-3b"
        assert pipeline.mode == "box"
        assert pipeline.sampling.max_tokens == 7
        assert pipeline.why == "scripted: asked for"
        assert pipeline.predict(Image.new("RGB", (20, 10)), "dog").no_target


def test_the_bundled_model_is_cut_where_no_right_answer_reaches(scripted: dict[str, Any]) -> None:
    for asked, given in ((1500, 512), (100, 100)):
        with gensegcli.load("demo", max_tokens=asked, **scripted) as pipeline:
            assert pipeline.sampling.max_tokens == given


def test_auto_says_what_it_chose_and_why(scripted: dict[str, Any]) -> None:
    scripted["backend"] = "auto"
    with gensegcli.load(**scripted) as pipeline:
        assert pipeline.why.startswith("scripted: answers are read from")


def test_phases_are_told(scripted: dict[str, Any]) -> None:
    told: list[str] = []
    gensegcli.load(on_phase=told.append, **scripted).close()
    assert [line.split(" (")[0] for line in told] == [
        "looking for segmenter boxfill",
        "reading answers",
        "loading segmenter boxfill",
    ]


@pytest.mark.parametrize(
    ("settings", "message", "code"),
    [
        ({"model": "qwen3-vl-5b"}, "unknown model 'qwen3-vl-5b'", ExitCode.NOT_FOUND),
        ({"segmenter": "sam3"}, "unknown segmenter 'sam3'", ExitCode.NOT_FOUND),
        ({"backend": "vlm"}, "unknown backend 'vlm'", ExitCode.NOT_FOUND),
        ({"mode": "box+3"}, r"unknown prompt mode 'box\+3'", ExitCode.NOT_FOUND),
        ({"dialect": "genseg-ng"}, "unknown dialect 'genseg-ng'", ExitCode.NOT_FOUND),
        # Before the policy is looked for, which would fail here: it is not in the cache.
        ({"backend": "transformers", "segmenter_backend": "sam3"}, "unknown segmenter backend", ExitCode.NOT_FOUND),
        ({"time_out": 3}, "unknown engine setting 'time_out'", ExitCode.NOT_FOUND),
        ({"timeout": -3.0}, r"model.timeout \(argument\): input should be greater than 0", ExitCode.USAGE),
        ({"n": 4}, "n=4 with temperature 0: greedy decoding has one completion", ExitCode.USAGE),
        ({"prompt": "find it"}, r"no \{query\} in it", ExitCode.USAGE),
        ({"backend": "transformers"}, "Qwen/Qwen3-VL-4B-Instruct: not in the hub cache", ExitCode.NOT_FOUND),
        ({"segmenter": None}, "facebook/sam2-hiera-large: not in the hub cache", ExitCode.NOT_FOUND),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    scripted: dict[str, Any],
    settings: dict[str, Any],
    message: str,
    code: ExitCode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(GensegError, match=message) as caught:
        gensegcli.load(**{**scripted, **settings})
    assert caught.value.code == code


def test_offline_names_the_way_out(scripted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(GensegError) as caught:
        gensegcli.load(backend="transformers", segmenter="boxfill")
    assert "--model demo" in caught.value.hint


def test_a_prompt_of_ones_own_changes_the_question_and_the_digest_only() -> None:
    base = get_dialect("genseg")
    custom = with_prompt(base, 'Where is "{query}"? As [{"bbox_2d": …}].')
    assert custom.ask("the {query} dog") == 'Where is "the {query} dog"? As [{"bbox_2d": …}].'
    assert custom.digest != base.digest
    assert len(custom.digest) == len(base.digest)
    nothing = Answer(think="hm")
    assert custom.read(custom.render(nothing), strict=True) == nothing


def test_a_device_that_the_engine_does_not_take_shows_before_anything_is_downloaded(
    scripted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    told: list[str] = []
    with pytest.raises(GensegError, match="backend vllm does not take device 'cuda:1'"):
        gensegcli.load(on_phase=told.append, **{**scripted, "backend": "vllm", "device": "cuda:1"})
    assert told == []


@pytest.mark.parametrize(
    ("package", "settings", "message"),
    [
        ("vllm", {"backend": "vllm"}, "backend vllm: not installed: vllm"),
        ("sam2", {"backend": "transformers", "segmenter_backend": "sam2-meta"}, "sam2-meta: not installed: sam2"),
    ],
)
def test_a_missing_engine_shows_before_anything_is_downloaded(
    scripted: dict[str, Any],
    package: str,
    settings: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    told: list[str] = []
    with pytest.raises(GensegError, match=message) as caught:
        gensegcli.load(on_phase=told.append, **{**scripted, "segmenter": "sam2-large", **settings})
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert told == []


def test_a_dialect_asked_for_wins_over_the_models_own(scripted: dict[str, Any]) -> None:
    with gensegcli.load("qwen3-vl-4b", **scripted) as own, gensegcli.load(dialect="genseg-neg", **scripted) as asked:
        assert (own.dialect.name, asked.dialect.name) == ("genseg", "genseg-neg")
        assert asked.predict(Image.new("RGB", (20, 10)), "dog").dialect == "genseg-neg"
        assert asked.engine == {"backend": "scripted"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": 3}, "model is int, expected a text"),
        ({"model": None}, "model is NoneType, expected a text"),
        ({"segmenter": ["boxfill"]}, "segmenter is list"),
        ({"mode": ["box"]}, "mode is list"),
        ({"backend": b"scripted"}, "backend is bytes"),
        ({"dialect": 1}, "dialect is int"),
        ({"prompt": 1}, "prompt is int"),
        ({"on_phase": "yes"}, "on_phase is str, expected a function"),
        ({"temperature": "hot"}, "load: temperature: input should be a valid number"),
        ({"n": 1.5}, "load: n: input should be a valid integer"),
        ({"n": None}, "load: n: input should be a valid integer"),
        ({"seed": -1}, "load: seed: input should be greater than or equal to 0"),
        ({"max_tokens": []}, "load: max_tokens: input should be a valid integer"),
        ({"multimask": "perhaps"}, "load: multimask: input should be a valid boolean"),
        ({"segmenter_batch": 0}, "load: batch_size: input should be greater than or equal to 1"),
        ({"answers": 7}, r"model\.answers \(argument\)"),
        ({"device": 0.5, "backend": "vllm"}, "device"),
        ({"batch_size": "many"}, r"model\.batch_size \(argument\)"),
    ],
)
def test_arguments_of_another_type_are_told(scripted: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GensegError, match=words):
        gensegcli.load(**{**scripted, **settings})


def test_a_keyword_that_does_not_exist_is_told_with_the_nearest(scripted: dict[str, Any]) -> None:
    with pytest.raises(GensegError, match="unknown engine setting 'time_out'"):
        gensegcli.load(time_out=3, **scripted)
    with gensegcli.load(**scripted) as pipeline, pytest.raises(TypeError):
        pipeline.predict(Image.new("RGB", (2, 2)), "dog", mode="box")  # ty: ignore[unknown-argument]


@pytest.mark.parametrize(
    ("image", "query", "words"),
    [
        (None, "dog", "the picture is NoneType, expected a path"),
        (3, "dog", "the picture is int"),
        ([1, 2], "dog", "the picture is list"),
        (Image.new("RGB", (2, 2)), ["a", "b"], "the expression is list, expected a text"),
        (Image.new("RGB", (2, 2)), None, "the expression is NoneType"),
    ],
)
def test_pictures_and_expressions_of_another_type_are_told(
    scripted: dict[str, Any], image: Any, query: Any, words: str
) -> None:
    with gensegcli.load(**scripted) as pipeline:
        for ask in (pipeline.predict, pipeline.predict_all):
            with pytest.raises(GensegError, match=words):
                ask(image, query)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        (["a.jpg"], r"requests\[0\] is str, expected a Request"),
        ([("a.jpg", "dog")], r"requests\[0\] is tuple"),
        ("a.jpg", "requests are str, expected a list"),
        (None, "requests are NoneType"),
        (7, "requests are int"),
        ([gensegcli.Request("1", None, "dog")], r"requests\[0\]: the picture is NoneType"),  # ty: ignore[invalid-argument-type]
        ([gensegcli.Request("1", "a.jpg", ["dog"])], r"requests\[0\]: id is str and query is list"),  # ty: ignore[invalid-argument-type]
    ],
)
def test_requests_of_another_type_are_told(scripted: dict[str, Any], requests: Any, words: str) -> None:
    with gensegcli.load(**scripted) as pipeline:
        for ask in (pipeline.predict_many, pipeline.predict_pictures, pipeline.ask_many):
            with pytest.raises(GensegError, match=words):
                list(ask(requests))


def test_a_missing_model_shows_before_torch_is_imported(tmp_path: Path, project_root: Path) -> None:
    """Torch takes seconds to import, and a look into the cache none."""
    code = (
        "import sys, gensegcli\n"
        "for settings in ({}, {'backend': 'transformers'}, {'model': 'demo', 'segmenter': 'sam2-large'}):\n"
        "    try:\n"
        "        gensegcli.load(**settings)\n"
        "    except gensegcli.GensegError as error:\n"
        "        print('torch' in sys.modules, error, '|', error.hint)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second
    assert first.startswith("False Qwen/Qwen3-VL-4B-Instruct: not in the hub cache")
    assert "--model demo" in first
    assert third.startswith("False facebook/sam2-hiera-large: not in the hub cache")
    assert "--segmenter boxfill" in third
    assert "--model demo" not in third
