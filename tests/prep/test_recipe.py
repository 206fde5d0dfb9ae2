"""Every recipe resolves for every split and purpose it speaks of; what is asked is what comes out."""

from __future__ import annotations

import re
import tomllib
from itertools import product
from typing import TYPE_CHECKING

import pytest

from gensegcli.errors import GensegError
from gensegcli.prep.inputs import READERS
from gensegcli.prep.recipe import Foreground, Hub, names, recipe_folder, resolve
from gensegcli.sources.hub import FORMS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", names())
def test_recipes_resolve(name: str) -> None:
    content = tomllib.loads((recipe_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    splits = {content["split"], *(row["split"] for row in content.get("published", []))}
    splits |= {variant["when"].get("split", content["split"]) for variant in content.get("variant", [])}
    for split, purpose in product(splits, ("train", "eval")):
        recipe = resolve(name, split=split, purpose=purpose)
        assert recipe.name == name
        assert recipe.source.kind in READERS
        assert recipe.about.licence
        assert recipe.about.get
    usual = resolve(name)
    if isinstance(usual.source, Hub):
        assert usual.source.form in FORMS
    if isinstance(usual.source, Foreground):
        assert usual.split in usual.source.folders


def test_a_recipe_for_everything_the_issue_of_the_field_names() -> None:
    wanted = {"grefcoco", "refcocog", "refcoco", "refcoco+", "reasonseg", "visionreasoner-7k", "refcocog-9k"}
    assert wanted | {"refcocog-val-hub", "dis5k", "cod10k", "camo", "duts", "coco", "scenes"} <= set(names())


def test_the_training_set_of_genseg_r1_g() -> None:
    recipe = resolve("grefcoco")

    assert (recipe.split, recipe.purpose) == ("train", "train")
    assert recipe.select.count == 15285
    assert recipe.picture.size == (840, 840)
    assert (recipe.points.positives, recipe.points.negatives, recipe.points.margin) == (2, 2, 10)
    assert recipe.select.shares is not None
    assert sum(recipe.select.shares.model_dump().values()) == pytest.approx(1)


def test_the_evaluation_sets_keep_pictures_and_take_first_sentences() -> None:
    recipe = resolve("grefcoco", split="val", purpose="eval")

    assert recipe.picture.size is None
    assert (recipe.select.per, recipe.select.sentence, recipe.select.first, recipe.select.count) == (
        "ref",
        "first",
        1000,
        0,
    )
    assert recipe.expected_here is not None
    assert (recipe.expected_here.samples, recipe.expected_here.no_target) == (1000, 358)
    assert resolve("grefcoco", split="testA").select.first == 0
    assert resolve("refcocog", split="val").expected_here.samples == 2573


def test_expectations_end_where_the_selection_is_changed() -> None:
    assert resolve("grefcoco", split="val", assignments=["select.first=10"]).expected_here is None
    assert resolve("refcocog", split="val", by="google").expected_here is None


def test_published_counts_of_the_specification() -> None:
    def told(name: str, split: str, **options: str) -> tuple[int | None, int | None, int | None]:
        row = resolve(name, split=split, **options).published_here
        assert row is not None
        return row.refs, row.pictures, row.sentences

    assert told("refcocog", "val") == (2573, 1300, 4896)
    assert told("grefcoco", "val") == (4237, 1501, 14229)
    assert told("grefcoco", "train") == (78930, 16994, 209344)
    assert told("refcoco", "testA") == (1975, 750, 5657)
    assert told("refcoco+", "testB") == (1798, 750, 4889)
    assert told("refcocog", "val", by="google") == (5000, 4650, None)


def test_settings_change_the_digest_and_words_do_not(tmp_path: Path) -> None:
    usual = resolve("refcocog")
    assert resolve("refcocog", assignments=["select.per=sentence"]).digest != usual.digest
    text = (recipe_folder() / "refcocog.toml").read_text().replace("Long expressions", "Long phrases")
    (tmp_path / "refcocog.toml").write_text(text)
    other = resolve(str(tmp_path / "refcocog.toml"))
    assert other.about.description != usual.about.description
    assert other.digest == usual.digest


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("select.cuont=3", "recipe grefcoco: select.cuont: no such setting"),
        ("select.per=picture", "select.per: input should be 'ref' or 'sentence'"),
        ("picture.quality=0", "picture.quality"),
        ("nothing", "expected key=value"),
        ("split.a=1", "split has no parts"),
    ],
)
def test_wrong_settings(assignment: str, words: str) -> None:
    with pytest.raises(GensegError, match=re.escape(words)):
        resolve("grefcoco", assignments=[assignment])


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(GensegError) as caught:
        resolve("grefcocoo")
    assert "did you mean grefcoco?" in caught.value.hint
    with pytest.raises(GensegError, match="no such file"):
        resolve(str(tmp_path / "mine.toml"))
    with pytest.raises(GensegError, match="has no choice of splits' authors"):
        resolve("reasonseg", by="umd")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[variant]]\npicture.quality = 3", "variant number 0: a table `when` is missing"),
        ("[[variant]]\nwhen = 3", "variant number 0: a table `when` is missing"),
        ("[[variant]]\nwhen = {}", "variant number 0: a table `when` is missing"),
        ('[[variant]]\nwhen = { purpos = "train" }', "variant number 0: when.purpos: no such condition"),
        ("[[variant]]\nwhen = { split = 2024-01-01 }", "variant number 0: when.split must be a text, datetime.date"),
        ("[variant]\nwhen = 3", "variant must be a list of tables"),
        ("variant = [3]", "variant number 0: a table `when` is missing"),
        ("split = { a = 1 }", "split must be a text, {'a': 1} found"),
        ("split = 2024-01-01", "split must be a text"),
        ("purpose = 3", "purpose must be a text, 3 found"),
        ('source = "coco"', "source must be a table, 'coco' found"),
        ("select = 3", "select: input should be a valid dictionary"),
        (f"select.count = {10**30}", "select.count: input should be less than or equal to"),
        (f"select.count = 1{'0' * 5000}", "not TOML"),
        ("select.seed = inf", "select.seed: input should be a finite number"),
        ("points.margin = nan", "points.margin: input should be"),
        (f"a = {'[' * 1000}", "recipe.toml: "),
        ("a = [", "not TOML"),
        ('[select]\ncount = "many"', "select.count: input should be a valid integer"),
    ],
)
@pytest.mark.parametrize("limit", [None, 3])
def test_a_recipe_of_another_form_is_one_line(tmp_path: Path, content: str, words: str, limit: int | None) -> None:
    whole = "" if "source" in content else '[source]\nkind = "coco"\n'
    about = '[about]\ntitle = "a"\ndescription = "a"\nlicence = "a"\n'
    path = tmp_path / "recipe.toml"
    path.write_text(f"{content}\n{whole}{about}")
    with pytest.raises(GensegError, match=re.escape(words)):
        resolve(str(path), limit=limit)
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(GensegError, match="not UTF-8"):
        resolve(str(path))
