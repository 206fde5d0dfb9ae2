"""The miniature policy: its tokenizer and processor, and a teaching path that equals the model's own forward pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gensegcli.dialects import get_dialect  # noqa: E402
from gensegcli.miniature.policy_data import CELL, SIZES, patchify  # noqa: E402
from gensegcli.miniature.policy_model import build_processor, build_tokenizer, number_tokens  # noqa: E402
from gensegcli.miniature.teach_policy import DIALECT, PolicyTeacher, Recipe  # noqa: E402
from gensegcli.sources.scenes import draw_scene, scene_of, true_answer  # noqa: E402

SMALL = Recipe(steps=4, scenes=2, questions=2)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(get_dialect(DIALECT))


def test_numbers_of_the_grid_are_one_token_each(tokenizer):
    ids = number_tokens(tokenizer)
    assert len(set(ids.tolist())) == 1001
    assert tokenizer.decode(ids[[0, 7, 410, 1000]].tolist()) == "074101000"


@given(st.text(max_size=200))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    special = any(token in text for token in tokenizer.all_special_tokens)
    assert special or tokenizer.decode(ids) == text


def test_an_answer_is_short(tokenizer):
    """8 numbers and 9 fixed parts per object: the completion of a one-object answer stays under 100 tokens."""
    lengths = []
    for index in range(50):
        scene, reference = scene_of(index, seed=21)
        text = get_dialect(DIALECT).render(true_answer(scene, reference))
        lengths.append(len(tokenizer.encode(text)) - 17 * len(reference.matches) - 8 * len(scene.things))
    assert max(lengths) < 60


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_those_of_the_processor(tokenizer, size):
    image = draw_scene(3, size).image
    out = build_processor(tokenizer).image_processor(images=[image], return_tensors="np")
    assert out["image_grid_thw"].tolist() == [[1, size.height * 2 // CELL, size.width * 2 // CELL]]
    np.testing.assert_allclose(out["pixel_values"], patchify(image), atol=1e-6)


def test_the_teaching_path_computes_what_the_model_computes():
    """Losses of a one-scene batch equal those from `model.forward` on the processor's inputs (bfloat16 tolerance)."""
    teacher = PolicyTeacher(Recipe(steps=4, scenes=1, questions=1))
    exact = 4  # past the soft phase: plain cross-entropy
    assert teacher.recipe.softness(exact) == 0
    batch = teacher.batches(0, 1)[0]
    ours = teacher.losses(batch, exact)
    with torch.no_grad():
        logits = teacher.model(
            input_ids=batch.ids,
            pixel_values=batch.patches,
            image_grid_thw=batch.grid,
            mm_token_type_ids=(batch.ids == teacher.model.config.image_token_id).int(),
        ).logits
    taught = batch.taught[0, 1:]
    targets = batch.ids[0, 1:][taught]
    loss = torch.nn.functional.cross_entropy(logits[0, :-1][taught], targets, reduction="none")
    number = teacher.value_of[targets] >= 0
    assert 0 < number.sum() < len(number)
    assert ours["numbers"].item() == pytest.approx(loss[number].mean().item(), rel=0.02)
    assert ours["words"].item() == pytest.approx(loss[~number].mean().item(), rel=0.02)


def test_soft_targets_cost_nothing_at_their_own_distribution():
    teacher = PolicyTeacher(SMALL)
    targets = teacher.numbers[[500, 500]]
    softness = teacher.recipe.softness(0)
    assert softness == 60
    logits = torch.full((2, len(teacher.tokenizer)), -1e9)
    distance = (500 - teacher.spoken).float()
    logits[:, teacher.numbers[teacher.spoken]] = -(distance**2) / (2 * softness**2)
    words = torch.zeros(1, len(teacher.tokenizer))
    losses = teacher._text_losses(
        torch.cat([logits, words]), torch.cat([targets, torch.tensor([teacher.tokenizer.eos_token_id])]), 0
    )
    assert losses["numbers"].item() == pytest.approx(0, abs=1e-4)
    assert losses["words"].item() == pytest.approx(np.log(len(teacher.tokenizer)), rel=1e-4)


def test_a_saved_policy_names_its_dialect_and_loads(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    teacher = PolicyTeacher(SMALL)
    teacher.save(tmp_path)
    card = json.loads((tmp_path / "genseg.json").read_text())
    assert card["dialect"] == DIALECT
    assert card["prompt_digest"] == get_dialect(DIALECT).digest
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    kept = teacher.model.get_input_embeddings().weight.half().float()
    assert torch.equal(model.get_input_embeddings().weight, kept)
    assert AutoProcessor.from_pretrained(tmp_path).tokenizer.encode("410") == [number_tokens(teacher.tokenizer)[410]]
