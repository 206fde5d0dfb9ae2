"""The encoder without unused work gives the features of the untouched one."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gensegcli.segmenter.sam2_lean import LeanAttention, make_lean  # noqa: E402
from tests.segmenter.tiny import tiny_sam2  # noqa: E402


@pytest.mark.parametrize("pictures", [1, 3])
def test_the_features_are_the_same(pictures: int) -> None:
    plain = tiny_sam2()
    lean = make_lean(copy.deepcopy(plain))
    pixels = torch.randn(pictures, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for found, expected in zip(lean.get_image_embeddings(pixels), plain.get_image_embeddings(pixels), strict=True):
            assert float(expected.std()) > 0.1
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_weights_keep_their_names_and_are_not_copied() -> None:
    model = tiny_sam2()
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert make_lean(model) is model
    make_lean(model)  # a second time changes nothing
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert all(isinstance(block.attn, LeanAttention) for block in model.vision_encoder.backbone.blocks)


def test_dead_work_is_gone() -> None:
    """The dropped attention weights were made with a softmax each, and the dropped encodings with sines."""
    counts = []
    pixels = torch.zeros(1, 3, 64, 64)
    blocks = len(tiny_sam2().vision_encoder.backbone.blocks)
    for model in (tiny_sam2(), make_lean(tiny_sam2())):
        with torch.inference_mode(), torch.profiler.profile() as profile:
            model.get_image_embeddings(pixels)
        names = [event.name for event in profile.events()]
        counts.append((names.count("aten::softmax"), names.count("aten::sin")))
    (plain_softmax, plain_sin), (lean_softmax, lean_sin) = counts
    assert plain_softmax - lean_softmax == blocks
    assert plain_sin > lean_sin == 0
