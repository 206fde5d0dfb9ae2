"""Which sentences become samples: first N references, draws of exactly so many, no picture above the others."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.prep.recipe import Shares
from gensegcli.prep.select import STRATA, Draw, by_picture, candidates, quotas, shortage, stratum
from tests.prep.conftest import Tree, recipe, small

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe


def drawn(tree: Tree, wanted: Recipe) -> list[str]:
    works, skips = candidates(tree.raw(wanted).refs, wanted)
    assert not skips
    draw = Draw(works, wanted.select)
    return [work.id for work in draw.take(draw.quota())]


def test_one_sample_a_reference_or_a_sentence(full_tree: Tree) -> None:
    for per, number in (("ref", 24 * 6), ("sentence", 24 * 14)):
        wanted = small(f"select.per={per}")
        works, _ = candidates(full_tree.raw(wanted).refs, wanted)
        assert len(works) == number
        assert len({work.id for work in works}) == number
    assert works[1].id == "grefcoco-unc-train-0-1"


def test_the_first_references_by_id_count_the_unusable_ones_too(full_tree: Tree) -> None:
    full_tree.refs[3]["ann_id"] = [999]
    wanted = small("select.per=ref", "select.first=5")

    works, skips = candidates(full_tree.raw(wanted).refs, wanted)

    assert [work.ref.id for work in works] == ["0", "1", "2", "4"]
    assert [(skip.id, skip.reason) for skip in skips] == [("grefcoco-unc-train-3-300", "dangling annotation")]


def test_random_sentences_are_the_same_every_time_and_not_all_the_first(full_tree: Tree) -> None:
    wanted = small("select.per=ref", "select.sentence=random")
    numbers = [work.sentence for work in candidates(full_tree.raw(wanted).refs, wanted)[0]]

    assert numbers == [work.sentence for work in candidates(full_tree.raw(wanted).refs, wanted)[0]]
    assert Counter(numbers)[0] < len(numbers) * 0.7


def test_expressions_that_are_empty_once_normalised(tree: Tree) -> None:
    tree.add_picture(1)
    for text in ("...", ' "" ', "", "a dog."):
        tree.add_ref(1, [], text)
    tree.add_ref(1, [])
    wanted = small()

    works, skips = candidates(tree.raw(wanted).refs, wanted)

    assert [work.ref.id for work in works] == ["3"]
    assert {skip.reason for skip in skips} == {"empty expression"}
    assert len(skips) == 4


def test_repeated_ids_give_one_sample(tree: Tree) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [], "a dog")
    tree.refs.append(tree.refs[0])
    wanted = small()

    works, skips = candidates(tree.raw(wanted).refs, wanted)

    assert len(works) == 1
    assert [skip.reason for skip in skips] == ["duplicate"]


def test_a_draw_has_the_size_and_the_shares_that_were_asked(full_tree: Tree) -> None:
    wanted = small(count=101)
    works, _ = candidates(full_tree.raw(wanted).refs, wanted)
    draw = Draw(works, wanted.select)
    taken = draw.take(draw.quota())

    assert Counter(stratum(work.ref) for work in taken) == {"no_target": 25, "single": 35, "multi": 41}
    assert len({work.id for work in taken}) == 101
    given = Counter(work.picture_key for work in taken)
    assert len(given) == 24
    assert max(given.values()) - min(given.values()) <= 1, "no picture dominates"


def test_a_draw_does_not_depend_on_the_order_of_the_file_or_its_place(full_tree: Tree, tmp_path: Path) -> None:
    expected = set(drawn(full_tree, small(count=50)))
    full_tree.refs.reverse()
    full_tree.annotations.reverse()
    shutil.copytree(full_tree.root, tmp_path / "another" / "machine")
    full_tree.root = tmp_path / "another" / "machine"

    assert set(drawn(full_tree, small(count=50))) == expected
    assert set(drawn(full_tree, small("select.seed=1", count=50))) != expected


def test_this_draw_for_ever(full_tree: Tree) -> None:
    """If this changes, published training sets cannot be made again: raise `prep.run.FORMAT` and say so."""
    assert sorted(drawn(full_tree, small(count=4))) == PINNED


PINNED = [
    "grefcoco-unc-train-130-13000",
    "grefcoco-unc-train-16-1601",
    "grefcoco-unc-train-38-3801",
    "grefcoco-unc-train-78-7801",
]


def test_a_cap_a_picture(full_tree: Tree) -> None:
    taken = drawn(full_tree, small("select.per_picture=2", count=48))
    assert len(taken) == 48
    with_cap = small("select.per_picture=2", count=49)
    works, _ = candidates(full_tree.raw(with_cap).refs, with_cap)
    draw = Draw(works, with_cap.select)
    problem = shortage(draw.quota(), draw.take(draw.quota()), works)
    assert isinstance(problem, GensegError)
    assert "only 48 can be drawn" in problem.message


def test_what_failed_is_replaced_by_its_own_kind(full_tree: Tree) -> None:
    wanted = small(count=40)
    works, _ = candidates(full_tree.raw(wanted).refs, wanted)
    draw = Draw(works, wanted.select)
    first = {work.id for work in draw.take(draw.quota())}

    more = draw.take({"multi": 3})

    assert [stratum(work.ref) for work in more] == ["multi"] * 3
    assert not first & {work.id for work in more}


@given(st.integers(0, 20000), st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
def test_quotas_add_up(count: int, parts: list[int]) -> None:
    shares = Shares(**{kind: part / sum(parts) for kind, part in zip(STRATA, parts, strict=True)})
    found = quotas(count, shares)

    assert sum(found.values()) == count
    assert all(abs(found[kind] - getattr(shares, kind) * count) < 1 for kind in STRATA)


def test_shares_that_do_not_add_up() -> None:
    with pytest.raises(GensegError, match=r"add up to 0\.9"):
        quotas(10, Shares(no_target=0.3, single=0.3, multi=0.3))


def test_pictures_stay_together_in_the_order_of_first_occurrence(full_tree: Tree) -> None:
    wanted = recipe("select.count=0")
    groups = by_picture(candidates(full_tree.raw(wanted).refs, wanted)[0])

    assert len(groups) == 24
    assert all(len({work.picture_key for work in group}) == 1 for group in groups)
