from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.prepared import CARD, read_prepared
from gensegcli.train.data import Samples, find_training_set, needs_masks, teachable, training_order

if TYPE_CHECKING:
    from pathlib import Path


def test_samples_by_number_are_those_read_in_order(scenes: Path) -> None:
    samples = Samples(find_training_set(str(scenes)))
    assert len(samples) == 24
    assert [samples[number] for number in range(24)] == list(read_prepared(scenes))
    assert samples[17] == samples[17]


@given(st.integers(1, 50), st.floats(0.1, 3.5), st.integers(1, 9), st.integers(0, 99))
def test_the_order_gives_every_sample_its_turn(count: int, epochs: float, per_step: int, seed: int) -> None:
    order = training_order(count, epochs=epochs, per_step=per_step, seed=seed)
    assert len(order) % per_step == 0
    assert len(order) >= round(count * epochs)
    assert len(order) - max(1, round(count * epochs)) < per_step
    for start in range(0, len(order) - count + 1, count):
        assert sorted(order[start : start + count]) == list(range(count))
    assert order == training_order(count, epochs=epochs, per_step=per_step, seed=seed)


def test_epochs_and_seeds_are_shuffled_apart() -> None:
    order = training_order(30, epochs=2, per_step=3, seed=0)
    assert order[:30] != order[30:]
    assert order != training_order(30, epochs=2, per_step=3, seed=1)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("visionreasoner-7k", "training data visionreasoner-7k: not prepared yet", "genseg prep visionreasoner-7k"),
        ("grefcoco", "not prepared yet (data/prepared/grefcoco-train", "genseg prep grefcoco"),
        ("grefcocoo", "unknown training data 'grefcocoo'", "did you mean grefcoco?"),
        ("nowhere/a/b", "nowhere/a/b: no such file or folder", ""),
        ("mine/scens", "mine/scens: no such file or folder", "did you mean mine/scenes? known: mine/scenes"),
    ],
)
def test_data_that_is_not_there(
    name: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "scenes").mkdir(parents=True)
    (tmp_path / "mine" / "scenes" / CARD).touch()
    with pytest.raises(GensegError) as caught:
        find_training_set(name)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == ExitCode.NOT_FOUND


def test_a_recipe_means_the_folder_where_it_is_prepared(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    (tmp_path / "data" / "prepared" / "scenes-train").symlink_to(scenes)
    assert find_training_set("scenes").digest == find_training_set(str(scenes)).digest


def test_a_reward_on_masks_looks_for_them_first(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = find_training_set(str(scenes))
    needs_masks(data, ["mask_iou"])
    monkeypatch.setattr(type(data), "has_masks", lambda _: False)
    needs_masks(data, [])
    with pytest.raises(GensegError, match=r"has objects without a mask, which the reward needs \(mask_iou\)"):
        needs_masks(data, ["mask_iou"])


def test_objects_that_no_answer_can_show_are_left_out(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = find_training_set(str(scenes))
    assert teachable(data) == list(range(24))

    class Rows:
        def __getitem__(self, _: str) -> Rows:
            return self

        def to_pylist(self) -> list[list[dict[str, object]]]:
            return [[{"points": [[1, 2]], "mask": None}], [], [{"points": [[1, 2], [3, 4]], "mask": None}]]

    monkeypatch.setattr("gensegcli.train.data.pq.read_table", lambda *_, **__: Rows())
    assert teachable(data) == [1, 2]
    monkeypatch.setattr(Rows, "to_pylist", lambda _: [[{"points": [[1, 2]], "mask": None}]])
    with pytest.raises(GensegError, match="no object has two points or a mask"):
        teachable(data)
