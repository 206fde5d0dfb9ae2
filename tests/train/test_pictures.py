"""Reading a group's picture once gives the processor's own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402

from gensegcli.families import BUNDLED  # noqa: E402
from gensegcli.train.pictures import read_once  # noqa: E402


@pytest.fixture(scope="module")
def processor() -> Any:
    return transformers.AutoProcessor.from_pretrained(BUNDLED / "policy", local_files_only=True)


@pytest.mark.parametrize("tensors", ["pt", None])
def test_the_numbers_are_the_processors_own(
    processor: Any, monkeypatch: pytest.MonkeyPatch, tensors: str | None
) -> None:
    """Three completions of one picture and two of another, of different sizes: two pictures are read instead of five."""
    rng = np.random.default_rng(0)
    one, other = (Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in ((120, 120), (80, 160)))
    pictures = [[one], [one], [other], [one], [other]]
    texts = ["<|vision_start|><|image_pad|><|vision_end|>which?"] * 5
    named = {"images": pictures, "text": texts, "padding": True, "return_tensors": tensors}
    expected = processor(**named)
    own, counts = processor.image_processor, []
    plain = type(own).preprocess
    monkeypatch.setattr(
        type(own), "preprocess", lambda self, images, **how: counts.append(len(images)) or plain(self, images, **how)
    )
    with read_once(processor):
        found = processor(**named)
    assert processor.image_processor is own
    assert counts == [2]
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(expected[name])), name
