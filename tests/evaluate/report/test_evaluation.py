"""The page: complete, self-contained, and unmoved by whatever strangers wrote into runs."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from gensegcli.evaluate.report import evaluation
from gensegcli.evaluate.report.evaluation import Options, evaluation_page
from gensegcli.evaluate.report.sections import sections
from gensegcli.evaluate.results import read_run
from gensegcli.records import PromptMode
from tests.evaluate.report.runs import Texts, made_run
from tests.evaluate.report.test_markup import Reader

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "<script>document.title='owned'</script>"
HOSTILE = Texts(
    query=f'{SCRIPT}<img src="https://example.org/q" onerror="document.title=1">',
    think=f"</p></details>{SCRIPT}<iframe src=https://example.org/t></iframe>",
    raw=f"<answer>{SCRIPT}</answer>",
    model=f"<style>body{{display:none}}</style>{SCRIPT.replace('/', '_')}",
    data="a<b>c&quot;",
)


def _page(*runs: Path, **options: object) -> str:
    return evaluation_page(sections([read_run(run) for run in runs]), Options(**options))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "a", 24, quality=0.99)


@pytest.fixture(scope="module")
def text(one: Path) -> str:
    return _page(one)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(made_run(tmp_path_factory.mktemp("runs") / "<script>alert(1)", 18, texts=HOSTILE), samples=2)


def test_a_page_has_every_part(text: str) -> None:
    found = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    for heading in ("cIoU", "Where the score comes from", "By kind of sample", "Refusals", "How it was measured"):
        assert heading in found.text
    for title in ("P@τ: share of samples with IoU ≥ τ", "Answers by truth", "Reliability", "IoU of"):
        assert any(title in (attributes.get("aria-label") or "") for _, attributes in found.elements)
    for gallery in ("Worst", "Hallucinated", "Missed", "Refused", "Median", "Best"):
        assert gallery in found.text
    assert "I look at the shapes one by one." in found.text
    assert "no answer here" in found.text, "what could not be read is shown as it was"
    assert "smoothing" in found.text


def test_a_page_is_well_formed_and_accessible(text: str) -> None:
    elements = Reader(text).elements
    tags = [tag for tag, _ in elements]
    assert dict(elements)["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in elements if tag == "th")
    pictures = [attributes for tag, attributes in elements if tag == "svg"]
    assert all(drawn.get("aria-label") or drawn.get("aria-hidden") for drawn in pictures)
    headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))


@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_a_page_fetches_nothing_and_runs_nothing(which: str, text: str, hostile: str) -> None:
    elements = Reader(hostile if which == "hostile" else text).elements
    assert not {tag for tag, _ in elements} & {"script", "iframe", "object", "embed", "link", "base", "form"}
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:image/webp;base64,")), (tag, name, target[:80])
    policies = [attributes["content"] for _, attributes in elements if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_what_strangers_wrote_is_shown_as_they_wrote_it(hostile: str) -> None:
    found = Reader(hostile)
    for text in (HOSTILE.query, HOSTILE.think, HOSTILE.raw, HOSTILE.data):
        assert text in found.text
    assert [tag for tag, _ in found.elements].count("style") == 1
    assert [tag for tag, _ in found.elements].count("title") >= 1


def test_the_style_sheet_asks_for_nothing() -> None:
    from importlib.resources import files

    css = files("gensegcli.evaluate.report").joinpath("style.css").read_text(encoding="utf-8")
    assert not re.findall(r"url\(|@import|https?:", css)


def test_pictures_stay_within_their_room(one: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text
    pictures = sum(map(len, re.findall(r'src="(data:[^"]*)"', whole)))
    monkeypatch.setattr(evaluation, "PICTURES", pictures // 2)
    text = _page(one)
    kept = sum(map(len, re.findall(r'src="(data:[^"]*)"', text)))
    assert 0 < kept <= pictures // 2
    assert "pictures left out" in text
    assert text.count("<article") == whole.count("<article")


def test_no_samples_asked_for_is_no_galleries(one: Path) -> None:
    assert "<article" not in _page(one, samples=0)
    assert _page(one, samples=1).count("<article") == 6


def test_without_its_data_a_run_is_reported_without_galleries(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", 12)
    (tmp_path / "scenes-val.parquet").unlink()
    told: list[str] = []
    text = _page(run, tell=told.append)
    assert "<article" not in text
    assert "No galleries for qwen3-vl-tuned" in text
    assert "P@τ" in text
    assert len(told) == 1
    assert "scenes-val.parquet" in told[0]


def test_a_set_that_is_no_longer_the_one_that_was_scored_gives_no_galleries(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", 12)
    made_run(tmp_path / "b", 2, texts=Texts(query="something else"))
    text = _page(run)
    assert "something else" not in text
    assert "No galleries for qwen3-vl-tuned" in text


def test_an_evaluation_of_no_samples_is_a_page_without_numbers(tmp_path: Path) -> None:
    text = _page(made_run(tmp_path / "a", 0))
    assert "No metric has a sample to stand on." in text
    assert "<article" not in text


def test_runs_under_different_protocols_are_told_apart_on_the_page(one: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "b", 24, protocol="gres")
    found = Reader(_page(one, other, samples=0))
    assert "2 protocols (genseg, gres)" in found.text
    assert [attributes["id"] for tag, attributes in found.elements if tag == "section"] == ["s1", "s2"]
    links = [attributes["href"] for tag, attributes in found.elements if tag == "a"]
    assert links == ["#results", "#s1", "#s2"]


def test_several_results_stand_in_one_table(tmp_path: Path) -> None:
    text = _page(made_run(tmp_path / "a", 8, modes=(PromptMode.BOX, PromptMode.BOX_1, PromptMode.BOX_2)), samples=1)
    assert re.search(r'aria-label="Headline metrics with 95 % intervals".*?box\+1', text, re.DOTALL)


def test_published_numbers_are_on_the_page_with_their_caveats(tmp_path: Path) -> None:
    text = _page(made_run(tmp_path / "a", 8, texts=Texts(data="refcocog-val")), compared=["genseg-r1"], samples=0)
    found = Reader(text)
    assert "GenSeg-R1-8B0.71270.7382" in found.text
    assert "Not consistent in itself" in found.text
    assert "Different samples: theirs are 2,573, these 8" in found.text


def test_a_page_is_the_same_when_it_is_made_again(one: Path, text: str) -> None:
    assert _page(one) == text


def test_a_long_text_is_cut_and_says_so(tmp_path: Path) -> None:
    text = _page(made_run(tmp_path / "a", 8, texts=Texts(think="word " * 10_000)))
    assert "more characters" in text
    assert len(re.findall("word", text)) < 8 * 600
