from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.config import Settings, digest, presets, resolve
from gensegcli.dialects import get_dialect
from gensegcli.errors import ExitCode, GensegError
from gensegcli.models import POLICIES, SEGMENTERS

if TYPE_CHECKING:
    from pathlib import Path


def _origin(key: str, **sources: Any) -> tuple[Any, str]:
    return next((value, origin) for name, value, origin in resolve(**sources).rows() if name == key)


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_names_known_models(name: str) -> None:
    settings = resolve(preset=name).settings
    assert settings.model.name in POLICIES
    assert settings.segmenter.name in SEGMENTERS
    text = (files("gensegcli") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# "), "says in its first line what it is"
    stated = {f"{section}.{key}" for section, values in tomllib.loads(text).items() for key in values}
    assert {key for key, _, origin in resolve(preset=name).rows() if origin == f"preset {name}"} == stated


def test_the_presets_of_the_method_are_all_there() -> None:
    assert {"demo", "genseg-r1-4b", "genseg-r1-8b", "genseg-r1-g", "genseg-r1-g-noneg", "seg-zero"} <= set(presets())


def test_every_setting_is_described() -> None:
    for section, field in Settings.model_fields.items():
        assert field.description
        for name, setting in type(getattr(Settings(), section)).model_fields.items():
            assert setting.description, f"{section}.{name}"
            assert isinstance(setting.json_schema_extra["free"], bool), f"{section}.{name}"


def test_layers_in_their_order_and_the_origin_of_each_value(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[predict]\nseed = 3\nmode = "box"\n[model]\nname = "a/b"\n')
    sources = {
        "preset": "genseg-r1-8b",
        "file": path,
        "assignments": ["predict.seed=4", "segmenter.multimask=false"],
        "flags": {"predict.seed": 5, "model.device": None},
    }
    assert _origin("predict.seed", **sources) == (5, "flag")
    assert _origin("segmenter.multimask", **sources) == (False, "--set")
    assert _origin("predict.mode", **sources) == ("box", str(path))
    assert _origin("model.name", **sources) == ("a/b", str(path))
    assert _origin("segmenter.name", **sources) == ("sam2-large", "preset genseg-r1-8b")
    assert _origin("model.device", **sources) == ("auto", "default")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("model.name=Qwen/Qwen3-VL-8B-Instruct", "model.name", "Qwen/Qwen3-VL-8B-Instruct"),
        ("model.name=123", "model.name", "123"),
        ('model.name="quoted"', "model.name", "quoted"),
        ("predict.temperature=1", "predict.temperature", 1.0),
        ("model.answers=a=b.jsonl", "model.answers", "a=b.jsonl"),
        ("predict.mode=box+2+neg", "predict.mode", "box+2+neg"),
    ],
)
def test_assignments_take_toml_or_bare_text(text: str, key: str, value: Any) -> None:
    assert _origin(key, assignments=[text]) == (value, "--set")


@pytest.mark.parametrize(
    ("sources", "message", "hint"),
    [
        ({"assignments": ["predict.sed=1"]}, "unknown setting 'predict.sed' (--set)", "did you mean predict.seed?"),
        ({"assignments": ["preset=1"]}, "unknown setting 'preset' (--set)", "known: eval, model"),
        ({"assignments": ["predict.seed"]}, "--set predict.seed: expected section.key=value", "--set predict.seed=1"),
        ({"flags": {"predict.max_tokens": 0}}, "predict.max_tokens (flag): input should be greater", "longest"),
        ({"assignments": ["model.dtype=int8"]}, "model.dtype (--set): input should be 'auto', 'bfloat16'", "number"),
        ({"assignments": ["predict.mode=boxes"]}, "predict.mode (--set): input should be 'box', 'box+1'", "parts"),
    ],
)
def test_mistakes_are_named_with_their_origin(sources: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(GensegError) as caught:
        resolve(**sources)
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint
    assert caught.value.code == ExitCode.USAGE


def test_unknown_presets_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="unknown preset 'genseg-r1-4'") as caught:
        resolve(preset="genseg-r1-4")
    assert "did you mean genseg-r1-4b?" in caught.value.hint
    with pytest.raises(GensegError, match="No such file") as caught:
        resolve(file=tmp_path / "none.toml")
    assert caught.value.code == ExitCode.NOT_FOUND
    broken = tmp_path / "broken.toml"
    broken.write_text("[predict\n")
    with pytest.raises(GensegError, match="not TOML"):
        resolve(file=broken)
    broken.write_bytes(b"\xff")
    with pytest.raises(GensegError, match="not UTF-8"):
        resolve(file=broken)
    broken.write_text("predict = 1\n")
    with pytest.raises(GensegError, match="unknown setting 'predict'"):
        resolve(file=broken)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[predict]\nseed = " + "9" * 5000, "not TOML ("),
        ("[predict]\nseed = " + "[" * 5000, "brackets nest too deeply"),
        ("[predict]\nseed = " + "[" * 700 + "1" + "]" * 700, "brackets nest too deeply"),
        ("[predict]\nseed = " + "{a=" * 5000, "brackets nest too deeply"),
    ],
)
def test_a_damaged_file_of_settings_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(GensegError) as caught:
        resolve(file=path)
    assert caught.value.message.startswith(f"{path}: {complaint}")


@pytest.mark.parametrize("key", ["a." * 3000 + "b", "predict.seed." + "a." * 3000 + "b", "predict.seed.x"])
def test_tables_in_tables_are_no_setting(tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{key} = 1\n")
    with pytest.raises(GensegError, match=r"unknown setting '(a\.a\.a|predict\.seed\.[ax])'"):
        resolve(file=path)


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf[predict]\nseed = 3\n")
    assert _origin("predict.seed", file=path) == (3, str(path))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "[" * 700 + "]" * 700, "1\nx = 2", "{a = {a = 1}}"])
def test_a_setting_of_any_text_is_refused_in_one_short_line(value: str) -> None:
    with pytest.raises(GensegError) as caught:
        resolve(assignments=[f"predict.seed={value}"])
    assert caught.value.message.startswith("predict.seed (--set): ")
    assert "integer" in caught.value.message
    assert len(caught.value.message) < 200


def test_the_digest_is_of_what_decides_the_results() -> None:
    plain = resolve()
    assert (
        resolve(assignments=["model.device=cuda", "model.batch_size=3", "segmenter.batch_size=1"]).digest
        == plain.digest
    )
    assert resolve(flags={"predict.seed": 0}).digest == plain.digest, "a value, not where it came from"
    for text in ("predict.seed=1", "model.name=x/y", "segmenter.multimask=false", "predict.mode=box"):
        assert resolve(assignments=[text]).digest != plain.digest
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("predict.seed=99999999999999999999", r"predict.seed \(--set\): input should be less than 4294967296"),
        ("predict.seed=-1", r"predict.seed \(--set\): input should be greater than or equal to 0"),
        ("predict.max_tokens=99999999999999999999", r"predict.max_tokens \(--set\)"),
        ("model.batch_size=99999999999999999999", r"model.batch_size \(--set\)"),
        ("predict.temperature=inf", r"predict.temperature \(--set\): input should be a finite number"),
        ("model.name=caf\udce9", r"model.name \(--set\): not valid UTF-8"),
    ],
)
def test_values_that_no_json_holds_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(GensegError, match=message):
        resolve(assignments=[assignment])


def test_the_password_of_an_address_is_used_but_not_shown() -> None:
    resolved = resolve(flags={"model.base_url": "http://me:secret@127.0.0.1:8000/v1"})
    assert resolved.settings.model.base_url == "http://me:secret@127.0.0.1:8000/v1"
    shown = {key: value for key, value, _ in resolved.rows()}
    assert shown["model.base_url"] == "http://127.0.0.1:8000/v1"


def test_a_preset_that_gives_negative_points_to_the_segmenter_also_asks_for_them() -> None:
    """And only such a preset: a dialect's question shows by itself whether it asks."""
    for name in presets():
        settings = resolve(preset=name).settings
        entry = POLICIES[settings.model.name]
        question = get_dialect(settings.model.dialect or entry.dialect).ask("the cup")
        assert ("neg" in question.lower()) == (settings.predict.mode == "box+2+neg"), name
    assert resolve(preset="genseg-r1-g").settings.model.dialect == "genseg-neg"
    assert (
        resolve(preset="genseg-r1-g").digest
        != resolve(preset="genseg-r1-g", assignments=["model.dialect=genseg"]).digest
    )
