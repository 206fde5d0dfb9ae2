"""From a name to a ready segmenter, and every way a folder can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gensegcli.errors import ExitCode, GensegError, install_hint
from gensegcli.models import resolve_segmenter
from gensegcli.segmenter import BACKENDS, load_segmenter, require_backend
from gensegcli.segmenter.boxfill import BoxFill
from tests.segmenter.tiny import assert_alike, picture, random_prompts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def copied(sam2_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sam2_folder, tmp_path / "sam2")


def edit(path: Path, change: dict[str, object]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_boxfill_needs_no_torch() -> None:
    code = (
        "import sys; from gensegcli.models import resolve_segmenter; from gensegcli.segmenter import load_segmenter;"
        "load_segmenter(resolve_segmenter('boxfill')); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
    assert isinstance(load_segmenter(resolve_segmenter("boxfill")), BoxFill)


def test_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(GensegError) as raised:
        load_segmenter(resolve_segmenter("boxfill"), backend="sam2-mata")
    assert "did you mean sam2-meta?" in raised.value.hint
    assert set(BACKENDS) == {"sam2", "sam2-meta", "boxfill"}


def test_weights_are_wanted_where_there_are_none() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(GensegError, match="'boxfill' has no weights"):
        load_segmenter(resolve_segmenter("boxfill"), backend="sam2")


def test_identity_is_carried(sam2_folder: Path) -> None:
    found = load_segmenter(resolve_segmenter(str(sam2_folder)), device="cpu")
    assert found.id == str(sam2_folder)
    assert str(found.revision).startswith("sha256:")


def test_half_precision_weights_are_loaded_in_full(sam2_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import Sam2Model

    folder = shutil.copytree(sam2_folder, tmp_path / "half")
    Sam2Model.from_pretrained(sam2_folder, dtype=torch.float16).save_pretrained(folder)
    assert (folder / "model.safetensors").stat().st_size < 0.7 * (sam2_folder / "model.safetensors").stat().st_size
    found = load_segmenter(resolve_segmenter(str(folder)), device="cpu")
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}


def test_missing_weights_are_not_replaced_by_random_ones(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GensegError, match=r"lacks 1 weights, the first mask_decoder\.iou_token\.weight") as raised:
        load_segmenter(resolve_segmenter(str(copied)))
    assert raised.value.code == ExitCode.NOT_FOUND


def test_a_truncated_file_is_told(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(GensegError, match="cannot be loaded"):
        load_segmenter(resolve_segmenter(str(copied)))


def test_a_read_only_picture_is_no_matter_and_nothing_is_printed(
    sam2_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Pillow's arrays are read-only; warnings are errors here.
    image = picture(90, 60)
    image.flags.writeable = False
    asked = random_prompts(1, 90, 60)
    assert len(load_segmenter(resolve_segmenter(str(sam2_folder)), device="cpu").segment([image], [asked])[0]) == 1
    assert "Loading weights" not in "".join(capfd.readouterr())


def test_processor_of_another_size_is_told(copied: Path) -> None:
    processor = json.loads((copied / "processor_config.json").read_text())["image_processor"]
    edit(
        copied / "processor_config.json",
        {"image_processor": processor | {"size": {"height": 128, "width": 128}}},
    )
    with pytest.raises(GensegError, match="model for 64x64 input and a processor for 128x128"):
        load_segmenter(resolve_segmenter(str(copied)))


def test_published_layout_of_a_video_checkpoint(copied: Path, sam2_folder: Path) -> None:
    # The published folders: model_type sam2_video, weights for video beside ours, the processor's older file name.
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    weights["memory_attention.layer_norm.weight"] = torch.ones(32)
    weights["no_object_pointer"] = torch.zeros(1, 32)
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    edit(copied / "config.json", {"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]})
    processor = json.loads((copied / "processor_config.json").read_text())["image_processor"]
    (copied / "processor_config.json").unlink()
    (copied / "preprocessor_config.json").write_text(
        json.dumps(
            processor | {"image_processor_type": "Sam2ImageProcessorFast", "processor_class": "Sam2VideoProcessor"}
        )
    )
    image, asked = picture(90, 60), random_prompts(3, 90, 60)
    ours = load_segmenter(resolve_segmenter(str(sam2_folder)), device="cpu").segment([image], [asked])
    video = load_segmenter(resolve_segmenter(str(copied)), device="cpu").segment([image], [asked])
    for mine, other in zip(ours[0], video[0], strict=True):
        assert_alike(mine.mask, other.mask)


def test_without_torch_the_hint_says_what_runs_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install asks a served model; its segmenter is boxfill."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in {"torch", "transformers"} else name)
    with pytest.raises(GensegError, match="segmenter backend sam2: not installed: torch, transformers") as caught:
        require_backend("sam2")
    assert "--segmenter boxfill" in caught.value.hint
    assert "torch" in caught.value.hint
    require_backend("boxfill")


def test_a_hint_names_packages_and_no_name_on_an_index() -> None:
    hint = install_hint("local")
    assert hint.startswith("pip install ")
    assert "torch" in hint or "[local]" in hint
    assert "genseg" not in hint
    assert install_hint("nothing-of-this-name") == "pip install '.[nothing-of-this-name]' in the project's folder"
