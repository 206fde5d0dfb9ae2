"""What ships of other people's numbers is whole, plausible, and found by the names people type."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gensegcli.errors import GensegError
from gensegcli.evaluate.report.published import ALL, PublishedTable, against, published_tables, slug, systems
from gensegcli.metrics.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[3]
TABLES = published_tables()
IDS = [f"{table.title} ({table.data}-{table.split})" for table in TABLES]


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_a_table_is_whole(table: PublishedTable) -> None:
    assert table.source
    assert table.unit
    assert table.protocol in PROTOCOLS
    assert (ROOT / "data_recipes" / f"{table.data}.toml").is_file(), "a run is matched by its recipe's name"
    assert table.samples > 0
    for row in table.rows.values():
        assert len(row) == len(table.columns)
        assert all(value is None or 0 <= value <= 1 for value in row)
        assert any(value is not None for value in row)


def test_the_sets_are_as_large_as_their_recipes_say() -> None:
    recipe = tomllib.loads((ROOT / "data_recipes" / "refcocog.toml").read_text(encoding="utf-8"))
    (val,) = [entry for entry in recipe["published"] if entry["split"] == "val" and entry["by"] == "umd"]
    sizes = {table.protocol: table.samples for table in TABLES if (table.data, table.split) == ("refcocog", "val")}
    assert sizes["res"] == val["sentences"]
    assert {table.samples for table in against(["genseg-r1"]) if table.data == "refcocog"} == {val["refs"]}


def test_table_8_contradicts_itself_by_what_its_caveat_says() -> None:
    (table,) = [table for table in against(["genseg-r1-4b"]) if "clean/cIoU" in table.columns]
    full, clean, overlap = table.rows["GenSeg-R1-4B"]
    assert full is not None
    assert clean is not None
    assert overlap is not None
    share = (full - overlap) / (clean - overlap)
    assert f"{share:.0%}".replace("%", " %") in table.caveats[0]
    assert f"{1067 / 2573:.0%}".replace("%", " %") in table.caveats[0]


def test_a_family_is_all_of_its_sizes_and_a_name_is_one_system() -> None:
    names = {system for table in against(["genseg-r1"]) for system in table.rows}
    assert {"GenSeg-R1-8B", "GenSeg-R1-4B", "GenSeg-R1-G"} <= names
    assert not [name for name in names if not name.startswith("GenSeg-R1")]
    assert {system for table in against(["Seg-Zero-7B"]) for system in table.rows} == {"Seg-Zero-7B"}
    assert against(["seg-zero", "seg-r1"])[0].rows.keys() == {"Seg-Zero-7B", "Seg-R1-7B", "Seg-R1-3B"}


def test_all_is_everything_and_nothing_is_nothing() -> None:
    assert against([ALL]) == list(TABLES)
    assert against([]) == []


def test_an_unknown_system_is_told_its_nearest_name() -> None:
    with pytest.raises(GensegError, match="unknown published system 'genseg-r2'") as told:
        against(["genseg-r2"])
    assert "did you mean genseg-r1" in told.value.hint


def test_every_system_s_name_is_as_one_types_it() -> None:
    assert all(slug(name) == name and " " not in name for name in systems())
    assert "qwen2.5-vl-7b-instruct" in systems()
