"""What two sets share, against set arithmetic in slow loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.audit.overlap import Method, SharedSplits, Verbatim, compare, shared_splits
from gensegcli.audit.pictures import Look
from gensegcli.audit.sets import Entry, Picture, PictureSet, read_set

if TYPE_CHECKING:
    from gensegcli.audit.sets import Places

RADIUS = 4
WORDS = ["a dog", "the man", "left", "red car"]


def picture_set(name: str, ids: list[int | None], entries: list[tuple[int, list[str]]]) -> PictureSet:
    """Pictures by number; entries as (picture, sentences), the first sentence asked."""
    return PictureSet(
        name,
        tuple(Picture(f"{name}-{place}", number, None) for place, number in enumerate(ids)),
        tuple(
            Entry(f"{name}-s{n}", f"r{n}", picture, texts[0], frozenset(texts))
            for n, (picture, texts) in enumerate(entries)
        ),
    )


@st.composite
def sides(draw: st.DrawFn, name: str) -> tuple[PictureSet, list[Look]]:
    ids = draw(
        st.lists(st.none() | st.integers(0, 4), max_size=5, unique_by=lambda n: n if n is not None else object())
    )
    looks = [
        Look(draw(st.none() | st.sampled_from([b"x", b"y", b"z"])), draw(st.none() | st.integers(0, 255))) for _ in ids
    ]
    texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)
    entries = draw(st.lists(st.tuples(st.integers(0, len(ids) - 1), texts), max_size=6)) if ids else []
    return picture_set(name, ids, entries), looks


def is_same(one: tuple[Picture, Look], other: tuple[Picture, Look], methods: set[Method]) -> set[Method]:
    """The slow way, for one pair."""
    (p, look), (q, seen) = one, other
    by = set()
    if p.image_id is not None and p.image_id == q.image_id:
        by.add(Method.ID)
    if look.digest is not None and look.digest == seen.digest:
        by.add(Method.DIGEST)
    if look.hash is not None and seen.hash is not None and bin(look.hash ^ seen.hash).count("1") <= RADIUS:
        by.add(Method.HASH)
    return by & methods


@given(sides("t"), sides("u"), sides("e"), st.sets(st.sampled_from(list(Method)), min_size=1))
def test_against_loops(first: Any, second: Any, asked: Any, methods: set[Method]) -> None:
    (one, one_looks), (two, two_looks), (evaluation, looks) = first, second, asked

    found = compare([one, two], evaluation, methods=sorted(methods), looks=[one_looks, two_looks, looks], radius=RADIUS)

    trained = [*zip(one.pictures, one_looks, strict=True), *zip(two.pictures, two_looks, strict=True)]
    ours = list(zip(evaluation.pictures, looks, strict=True))
    by = [set().union(*(is_same(picture, other, methods) for other in trained)) for picture in ours]
    shared = {place for place, ways in enumerate(by) if ways}
    assert found.overlap == tuple(entry.id for entry in evaluation.entries if entry.picture in shared)
    blank = {
        place
        for place, (picture, look) in enumerate(ours)
        if not {
            Method.ID: picture.image_id is not None,
            Method.DIGEST: look.digest is not None,
            Method.HASH: look.hash is not None,
        }.items()
        & {(method, True) for method in methods}
    }
    assert found.clean == tuple(entry.id for entry in evaluation.entries if entry.picture not in shared | blank)
    assert found.unknown == tuple(entry.id for entry in evaluation.entries if entry.picture in blank), (
        "not called clean"
    )
    assert {match.picture: set(match.by) for match in found.matches} == {ours[p][0].name: by[p] for p in shared}
    for match in found.matches:
        partner = next(pair for pair in trained if pair[0].name == match.trained)
        assert is_same(next(pair for pair in ours if pair[0].name == match.picture), partner, methods)

    taught = [(trained[entry.picture], text) for entry in one.entries for text in entry.sentences]
    taught += [(trained[len(one.pictures) + entry.picture], text) for entry in two.entries for text in entry.sentences]
    words = {text for _, text in taught}
    for verbatim, asks in (
        (found.asked, [(e.picture, e.query) for e in evaluation.entries]),
        (found.sentences, [(e.picture, text) for e in evaluation.entries for text in e.sentences]),
    ):
        here = [
            any(text == word and is_same(ours[place], picture, methods) for picture, word in taught)
            for place, text in asks
        ]
        assert verbatim == Verbatim(len(asks), sum(text in words for _, text in asks), sum(here))


def distinct_by_loops(pictures: list[tuple[Picture, Look]]) -> int:
    """Different pictures: those of one number are one; those without a number are one if their bytes are."""
    names = {p.image_id if p.image_id is not None else look.digest or p.name for p, look in pictures}
    return len(names)


@given(sides("t"), sides("e"))
def test_pictures_are_counted_once(trained: Any, asked: Any) -> None:
    (training, theirs), (evaluation, ours) = trained, asked
    found = compare([training], evaluation, methods=tuple(Method), looks=[theirs, ours], radius=RADIUS)

    left, right = (list(zip(s.pictures, seen, strict=True)) for s, seen in ((training, theirs), (evaluation, ours)))
    everything = set(Method)
    hit = [pair for pair in right if any(is_same(pair, other, everything) for other in left)]
    back = [pair for pair in left if any(is_same(other, pair, everything) for other in right)]
    assert (found.trained_pictures, found.pictures) == (distinct_by_loops(left), distinct_by_loops(right))
    assert (found.shared, found.found_trained) == (distinct_by_loops(hit), distinct_by_loops(back))


def test_the_numbers_of_the_paper_have_their_place(mini: Places) -> None:
    """By hand: pictures 785, 40083 and 196141 of the four of RefCOCOg's val are in gRefCOCO's train."""
    found = compare([read_set("grefcoco:train", mini)], read_set("refcocog:val", mini, evaluated=True))

    assert (found.trained_pictures, found.pictures, found.shared) == (3, 4, 3)
    assert (found.clean_refs, found.overlap_refs) == (3, 7)
    assert found.clean == ("refcocog-umd-val-8-13", "refcocog-umd-val-9-14", "refcocog-umd-val-10-16")
    assert found.asked == (10, 6, 6)
    assert found.sentences == (16, 11, 11)


def test_an_expression_on_another_picture_is_not_on_the_same() -> None:
    training = picture_set("t", [1, 2], [(0, ["a dog"]), (1, ["the man"])])
    evaluation = picture_set("e", [1, 3], [(0, ["the man", "a dog"]), (1, ["a dog"])])

    found = compare([training], evaluation)

    assert found.asked == (2, 2, 0), "asked are `the man` on 1 and `a dog` on 3, taught the other way round"
    assert found.sentences == (3, 3, 1)


def test_sentences_of_a_reference_count_once_however_many_samples_it_has() -> None:
    texts = frozenset({"a dog", "left"})
    evaluation = PictureSet(
        "e",
        (Picture("p", 1, None),),
        tuple(Entry(f"s{n}", "r", 0, text, texts) for n, text in enumerate(sorted(texts))),
    )
    found = compare([picture_set("t", [1], [(0, ["left"])])], evaluation)

    assert (found.asked, found.sentences) == ((2, 1, 1), (2, 1, 1))
    assert (found.overlap_refs, found.overlap) == (1, ("s0", "s1"))


def test_splits_that_share_pictures(mini: Places) -> None:
    sets = [read_set("grefcoco:train", mini), read_set("grefcoco:val", mini), read_set("refcocog:val", mini)]

    assert set(shared_splits(sets)) == {
        SharedSplits("grefcoco", ("val", "train"), (785, 40083, 196141)),
        SharedSplits("refcocog", ("val", "train"), (196141,)),
        SharedSplits("refcocog", ("val", "test"), (197388,)),
    }


@pytest.mark.parametrize("text", ["The Skier wearing a striped beanie!", "  the skier  wearing a striped beanie "])
def test_verbatim_means_after_the_normalisation(mini: Places, tmp_path: Any, text: str) -> None:
    (tmp_path / "own.jsonl").write_text(f'{{"image": 785, "query": "{text}"}}')
    found = compare([read_set("grefcoco:train", mini)], read_set(str(tmp_path / "own.jsonl"), mini))
    assert found.asked == (1, 1, 1)
