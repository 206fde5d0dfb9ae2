"""The transformers engine on tiny checkpoints of both families."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gensegcli.errors import ExitCode, GensegError
from gensegcli.models import resolve_policy
from gensegcli.policy import EngineOptions
from gensegcli.policy.base import QuestionsFailedError
from gensegcli.policy.hf import TransformersPolicy, choose_attention, choose_device, choose_dtype
from gensegcli.records import Completion, FinishReason, Question, Sampling
from tests.policy.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GREEDY = Sampling(max_tokens=24)
SHORT = Sampling(max_tokens=6)
DRAWN = Sampling(temperature=1.0, n=3, max_tokens=12, seed=5)


@pytest.fixture
def policy(checkpoint: Path) -> Iterator[TransformersPolicy]:
    made = TransformersPolicy(resolve_policy(str(checkpoint)), EngineOptions(device="cpu"))
    yield made
    made.close()


def test_a_batch_answers_as_one_by_one(policy: TransformersPolicy, questions: list[Question]) -> None:
    together = policy.generate(questions, GREEDY)
    alone = [policy.generate([question], GREEDY)[0] for question in questions]
    assert together == alone
    assert len({answer.text for (answer,) in together}) == len(questions)


def test_the_picture_decides_and_not_only_the_text(policy: TransformersPolicy) -> None:
    asked = [Question(picture(200, 120, seed=seed), "Find: red circle") for seed in range(3)]
    assert len({answer.text for (answer,) in policy.generate(asked, GREEDY)}) == 3


def test_it_says_what_plain_transformers_says(policy: TransformersPolicy, checkpoint: Path) -> None:
    """An independent, straightforward call: no padding, no batch, the processor resizes."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    question = Question(picture(320, 192), "Find: red circle")  # multiples of 32: no resizing on either side
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    if policy.entry.factor == 28:
        question = Question(picture(280, 168), question.text)
    content = [{"type": "image", "image": question.image}, {"type": "text", "text": question.text}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    made = model.generate(**inputs, do_sample=False, max_new_tokens=24)[0, inputs["input_ids"].shape[1] :]
    ((answer,),) = policy.generate([question], GREEDY)
    assert answer.text == processor.tokenizer.decode(made, skip_special_tokens=True).rstrip("\ufffd")
    assert answer.tokens == len(made)
    assert answer.prompt_tokens == inputs["input_ids"].shape[1]


def test_tokens_and_finish_are_counted(policy: TransformersPolicy, questions: list[Question]) -> None:
    for (answer,) in policy.generate(questions, GREEDY):
        assert answer.finish is (FinishReason.LENGTH if answer.tokens == 24 else FinishReason.STOP)
        assert answer.tokens <= 24


def test_it_stops_at_the_end_of_the_turn(policy: TransformersPolicy) -> None:
    """With every logit but that of `<|im_end|>` out of reach, one token is made, counted and not shown."""
    end = policy.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    head = policy.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    head.bias.data[end] = 1e6
    ((answer,),) = policy.generate([Question(picture(64, 64), "x")], GREEDY)
    assert answer == Completion("", FinishReason.STOP, tokens=1, prompt_tokens=answer.prompt_tokens)


def test_draws_differ_and_a_seed_repeats_them(policy: TransformersPolicy, questions: list[Question]) -> None:
    before = torch.random.get_rng_state()
    first = policy.generate(questions[:2], DRAWN)
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's random numbers are left alone
    assert [len(answers) for answers in first] == [3, 3]
    assert len({answer.text for answers in first for answer in answers}) == 6
    assert policy.generate(questions[:2], DRAWN) == first
    assert policy.generate(questions[:2], Sampling(1.0, n=3, max_tokens=12, seed=6)) != first


def test_what_is_drawn_does_not_depend_on_the_batch(policy: TransformersPolicy, questions: list[Question]) -> None:
    named = [replace(question, id=f"q{i}") for i, question in enumerate(questions)]
    together = policy.generate(named, DRAWN)
    assert [policy.generate([question], DRAWN)[0] for question in named] == together
    policy.batch_size = 4
    assert policy.generate(named[::-1], DRAWN)[::-1] == together
    assert policy.generate([replace(named[0], id="another")], DRAWN)[0] != together[0]


def test_no_questions_no_answers(policy: TransformersPolicy) -> None:
    assert policy.generate([], GREEDY) == []


def test_greedy_has_one_completion(policy: TransformersPolicy, questions: list[Question]) -> None:
    with pytest.raises(GensegError, match="n=2 with temperature 0"):
        policy.generate(questions, Sampling(n=2))


def test_a_prompt_beyond_the_context_fails_alone(policy: TransformersPolicy) -> None:
    asked = [Question(picture(64, 64), "x"), Question(picture(64, 64), "zq" * 3000)]
    with pytest.raises(QuestionsFailedError, match=r"1 of 2 questions failed.* reads at most 4096") as caught:
        policy.generate(asked, GREEDY)
    good, bad = caught.value.outcomes
    assert good == policy.generate(asked[:1], GREEDY)[0]
    assert isinstance(bad, GensegError)


def _failing_beyond(policy: TransformersPolicy, *, rows: int = 1000, width: int = 1000) -> list[int]:
    """Let the model run out of memory on larger batches or longer prompts; the list fills with the rows it was given."""
    real, seen = policy.model.forward, []

    def forward(**inputs):
        seen.append(inputs["input_ids"].shape[0])
        if seen[-1] > rows or inputs["input_ids"].shape[1] > width:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(**inputs)

    policy.model.forward = forward
    return seen


def test_out_of_memory_halves_the_batch(policy: TransformersPolicy, questions: list[Question]) -> None:
    expected = policy.generate(questions, SHORT)
    seen = _failing_beyond(policy, rows=2)
    assert policy.generate(questions, SHORT) == expected
    assert seen[:3] == [6, 3, 1]
    assert policy.batch_size == 1
    assert policy.generate(questions, SHORT) == expected  # what was learned stays
    assert set(seen[3:]) == {1}


def test_out_of_memory_keeps_what_is_finished(policy: TransformersPolicy, questions: list[Question]) -> None:
    expected = policy.generate(questions, SHORT)
    policy.batch_size = 2
    real, seen = policy.model.forward, []

    def forward(**inputs):
        seen.append(inputs["input_ids"].shape[0])
        if len(seen) == 18:  # two batches of 2 + 5 passes are done, and the third has begun to write
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(**inputs)

    policy.model.forward = forward
    assert policy.generate(questions, SHORT) == expected
    assert seen[:18] == [2] * 18
    assert seen[18:] == [1] * 2 * 7  # the two questions of the third batch, one by one, and no others again


def test_out_of_memory_for_one_row_is_an_error(policy: TransformersPolicy, questions: list[Question]) -> None:
    _failing_beyond(policy, rows=0)
    with pytest.raises(GensegError, match="do not fit into the memory of cpu") as caught:
        policy.generate(questions[:2], GREEDY)
    assert caught.value.code is ExitCode.SOME_FAILED
    assert "max_pixels" in caught.value.hint


def test_out_of_memory_for_one_question_keeps_the_others(policy: TransformersPolicy) -> None:
    asked = [Question(picture(width, 64), "x") for width in (64, 256, 96)]
    expected = [policy.generate([question], SHORT)[0] for question in asked]
    _failing_beyond(policy, width=expected[2][0].prompt_tokens)
    with pytest.raises(QuestionsFailedError, match=r"1 of 3 .*do not fit into the memory") as caught:
        policy.generate(asked, SHORT)
    first, second, third = caught.value.outcomes
    assert [first, third] == [expected[0], expected[2]]
    assert isinstance(second, GensegError)


def test_another_runtime_error_is_no_lack_of_memory(policy: TransformersPolicy, questions: list[Question]) -> None:
    def forward(**inputs):
        raise RuntimeError("a bug")

    policy.model.forward = forward
    with pytest.raises(RuntimeError, match="a bug"):
        policy.generate(questions, GREEDY)


def test_a_smaller_budget_means_fewer_tokens(checkpoint: Path) -> None:
    resolved = resolve_policy(str(checkpoint))
    question = Question(picture(300, 300), "x")
    counts = []
    for model in (resolved, resolved.within(20_000)):
        made = TransformersPolicy(model, EngineOptions(device="cpu"))
        counts.append(made.generate([question], Sampling(max_tokens=1))[0][0].prompt_tokens)
        made.close()
    factor = resolved.entry.factor
    # 300 × 300 within 65,536 and 20,000 pixels: 9 × 9 and 5 × 5 squares of 28, or 8 × 8 and 4 × 4 squares of 32.
    assert counts[0] - counts[1] == {28: 81 - 25, 32: 64 - 16}[factor]


# ---------------------------------------------------------------- damaged folders


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _with(changes: dict[str, Any]) -> Callable[[Path], None]:
    """Lays other values over a JSON file, one level deep."""

    def change(path: Path) -> None:
        found = json.loads(path.read_text())
        for key, value in changes.items():
            found[key] = {**found[key], **value} if isinstance(value, dict) else value
        path.write_text(json.dumps(found))

    return change


def _without_a_weight(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    del weights[sorted(weights)[0]]
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", _without_a_weight, r"lacks 1 weights, the first lm_head\.weight"),
        ("model.safetensors", _cut, r"model\.safetensors is damaged"),
        ("model.safetensors", lambda path: path.unlink(), r"no model\.safetensors in"),
        ("tokenizer.json", _cut, r"tokenizer\.json: not JSON"),
        ("tokenizer.json", lambda path: path.unlink(), r"lacks its tokenizer \(tokenizer\.json\)"),
        ("tokenizer_config.json", lambda path: path.write_text("{"), r"tokenizer_config\.json: not JSON"),
        ("chat_template.jinja", lambda path: path.unlink(), r"lacks a working chat_template\.jinja"),
        ("chat_template.jinja", lambda path: path.write_text("{% if"), r"lacks a working chat_template\.jinja"),
        (
            "chat_template.jinja",
            lambda path: path.write_text("{{ " + "[" * 3000 + "]" * 3000 + " }}"),
            r"lacks a working chat_template\.jinja",
        ),
        ("chat_template.jinja", lambda path: path.write_text("{{ 1 / 0 }}"), r"chat_template\.jinja: division by zero"),
        ("processor_config.json", lambda path: path.unlink(), "has a processor that cannot be loaded"),
        (
            "processor_config.json",
            lambda path: path.write_text('{"image_processor": {"patch_size": "x"}}'),
            r"processor_config\.json: image_processor\.patch_size: a whole number from 1 expected, 'x' found",
        ),
        (
            "processor_config.json",
            lambda path: path.write_text('{"image_processor": [1]}'),
            r"processor_config\.json: not the settings",
        ),
        (
            "tokenizer.json",
            _with({"added_tokens": [{"id": 0, "content": ["a"]}]}),
            "has a processor that cannot be loaded",
        ),
        ("config.json", _with({"vision_end_token_id": True}), "Validation error for field 'vision_end_token_id'"),
        ("config.json", _with({"image_token_id": 3}), r"has no placeholder for the picture in its prompt \(token 3\)"),
        ("tokenizer_config.json", _with({"model_max_length": "1024"}), "has a tokenizer that does not work"),
        (
            "processor_config.json",
            _with({"image_processor": {"image_mean": [[0.5, 0.5, 0.5]]}}),
            "has an image processor that does not work",
        ),
    ],
)
def test_a_damaged_folder_is_told(
    checkpoint_folders: dict[str, Path], tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(checkpoint_folders["qwen3_vl"], tmp_path / "copy")
    damage(folder / name)
    with pytest.raises(GensegError, match=message) as caught:
        TransformersPolicy(resolve_policy(str(folder)), EngineOptions(device="cpu"))
    assert caught.value.code is ExitCode.NOT_FOUND
    assert str(folder) in caught.value.message


# ---------------------------------------------------------------- choices


def test_choices_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert choose_dtype("auto", cpu) is torch.float32
    assert choose_dtype("bfloat16", cpu) is torch.bfloat16
    assert choose_attention("auto", cpu, torch.float32) == "sdpa"
    assert choose_attention("eager", cpu, torch.float32) == "eager"


@pytest.mark.parametrize("name", ["cuda:97", "xyz", "cuda:"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(GensegError, match=f"device '{name}' cannot be used") as caught:
        choose_device(name)
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_unknown_choices_name_the_known_ones() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(GensegError) as caught:
        choose_dtype("bfloat15", cpu)
    assert "did you mean bfloat16?" in caught.value.hint
    with pytest.raises(GensegError, match="unknown attention"):
        choose_attention("sdp", cpu, torch.float32)
    with pytest.raises(GensegError, match="flash_attention_2 needs a CUDA device"):
        choose_attention("flash_attention_2", cpu, torch.float32)
