"""The two SAM 2 implementations on the same weights: the same masks, in every prompt mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gensegcli.errors import GensegError
from gensegcli.models import resolve_segmenter
from gensegcli.segmenter import load_segmenter
from tests.segmenter.tiny import assert_alike, picture, random_prompts, tiny_sam2

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch")
pytest.importorskip("sam2", reason="the sam2 extra is not installed")

# Meta's package scripts its resize, which newer torch versions advise against. It is theirs to change.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

MODES = {"box": (0, 0), "box+1": (1, 0), "box+2": (2, 0), "box+2+neg": (2, 2)}


@pytest.mark.parametrize("multimask", [True, False], ids=["best of three", "single"])
@pytest.mark.parametrize("mode", MODES)
def test_same_masks_as_transformers(sam2_folder: Path, mode: str, multimask: bool) -> None:
    points, negatives = MODES[mode]
    sizes = [(64, 64), (120, 80), (37, 200)]
    images = [picture(*size) for size in sizes]
    prompts = [random_prompts(6, *size, points=points, negatives=negatives) for size in sizes]
    resolved = resolve_segmenter(str(sam2_folder))

    ours = load_segmenter(resolved, device="cpu", multimask=multimask).segment(images, prompts)
    theirs = load_segmenter(resolved, backend="sam2-meta", device="cpu", multimask=multimask).segment(images, prompts)

    shares = []
    for ours_of, theirs_of in zip(ours, theirs, strict=True):
        for mine, other in zip(ours_of, theirs_of, strict=True):
            assert_alike(mine.mask, other.mask)
            assert mine.score == pytest.approx(other.score, abs=2e-4)
            shares.append(mine.mask.mean())
    # Equal masks prove nothing if all are empty or full, or all alike.
    assert len({round(share, 3) for share in shares}) > 6


@pytest.mark.parametrize("multimask", [True, False])
def test_same_logits_as_transformers(sam2_folder: Path, multimask: bool) -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812

    from gensegcli.segmenter.sam2 import Sam2Segmenter
    from gensegcli.segmenter.sam2_meta import MetaSam2Segmenter

    resolved = resolve_segmenter(str(sam2_folder))
    ours = load_segmenter(resolved, device="cpu", multimask=multimask)
    theirs = load_segmenter(resolved, backend="sam2-meta", device="cpu", multimask=multimask)
    assert isinstance(ours, Sam2Segmenter)
    assert isinstance(theirs, MetaSam2Segmenter)
    image = picture(64, 64)  # at the model's input size: nothing is resized, and logits can be compared as they are
    box = np.array([[8.0, 10.0, 50.0, 40.0]], dtype=np.float32)
    (encoding,) = ours.encode([image])
    with torch.inference_mode():
        low = ours.model(
            image_embeddings=[level[None] for level in encoding.features],
            input_boxes=torch.from_numpy(box)[None],
            multimask_output=multimask,
        ).pred_masks[0]
        expected = F.interpolate(low, (64, 64), mode="bilinear", align_corners=False)[0].numpy()
    logits, _, _ = theirs._encode(image).predict(box=box, multimask_output=multimask, return_logits=True)
    difference, spread = np.abs(logits - expected).max(), np.ptp(expected)
    print(f"largest difference of logits {difference:.1e}, of a range of {spread:.0f}")
    assert spread > 1
    assert difference < 1e-4 * spread


def test_refuses_dimensions_that_meta_does_not_know(tmp_path: Path) -> None:
    from gensegcli.segmenter.sam2_weights import meta_model

    model = tiny_sam2()
    model.config.vision_config.backbone_config.embed_dim_per_stage = [8, 16, 32, 48]
    with pytest.raises(GensegError, match=r"embed_dim_per_stage.*1\.5"):
        meta_model(model)


def test_refuses_two_position_codes() -> None:
    from gensegcli.segmenter.sam2_weights import meta_model

    model = tiny_sam2()
    model.shared_image_embedding.positional_embedding.mul_(2)
    with pytest.raises(GensegError, match="different position codes"):
        meta_model(model)


def test_the_best_mask_that_is_not_empty_is_given(sam2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gensegcli.segmenter.sam2_meta import MetaSam2Segmenter

    meta = load_segmenter(resolve_segmenter(str(sam2_folder)), backend="sam2-meta", device="cpu")
    assert isinstance(meta, MetaSam2Segmenter)
    full = np.zeros((2, 3, 5, 4), np.float32)
    full[0, 1, 0, 0] = full[0, 2, :2, 0] = 1  # the second prompt's masks are all empty
    scores = np.array([[0.9, 0.5, 0.7], [0.2, 0.8, 0.3]], np.float32)

    class Predictor:
        def predict(self, **_: object) -> tuple[np.ndarray, np.ndarray, None]:
            return full, scores, None

    found = meta._predict(Predictor(), random_prompts(2, 4, 5), 5, 4)
    assert [(int(one.mask.sum()), one.score) for one in found] == [(2, pytest.approx(0.7)), (0, pytest.approx(0.8))]
