"""Tables in every form: what they say, and that no name breaks them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.evaluate.report import formats
from gensegcli.evaluate.report.sections import Section, sections
from gensegcli.evaluate.results import read_run
from gensegcli.metrics.records import Estimate
from gensegcli.records import PromptMode
from tests.evaluate.report.runs import Texts, made_run

if TYPE_CHECKING:
    from pathlib import Path

METRICS = {
    "cIoU": Estimate(0.71268, 0.7, 0.725, 2573),
    "mIoU": Estimate(0.7382, 0.73, 0.7461, 2573),
    "tokens": Estimate(152.34, 140.0, 161.0, 2573),
}
NASTY = r"a|b_c*[d]<e>&f%g$h#i{j}~k^l\m`"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "a", 6, metrics=METRICS, texts=Texts(model="tuned", data="refcocog-val"))
    return sections([read_run(folder / "a")])


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    folder = tmp_path_factory.mktemp("runs")
    modes = (PromptMode.BOX, PromptMode.BOX_2)
    made_run(folder / "a", 6, texts=Texts(model=NASTY, data="s|e_t"), modes=modes)
    made_run(folder / "b", 6, texts=Texts(model="plain", data="s|e_t"), protocol="gres")
    return sections([read_run(folder / "a"), read_run(folder / "b")])


def test_the_terminal_s_table_has_metrics_below_each_other_with_intervals(one: list[Section]) -> None:
    lines = formats.as_text(one).splitlines()
    assert lines[0] == (
        "refcocog-val, protocol genseg · all samples · model tuned · segmenter boxfill · prompted with box+2"
    )
    assert "cIoU   0.7127 [0.700, 0.725]" in lines
    assert "tokens   152.3 [140.0, 161.0]" in lines
    assert not [line for line in lines if line != line.rstrip()]


def test_many_runs_stand_below_each_other(tmp_path: Path) -> None:
    runs = [read_run(made_run(tmp_path / f"run{number}", 4, metrics=METRICS)) for number in range(5)]
    text = formats.as_text(sections(runs))
    assert re.search(r"^run +cIoU +mIoU$", text, re.MULTILINE)
    assert re.search(r"^run4 +0\.7127 +0\.7382$", text, re.MULTILINE)


def test_a_narrow_terminal_is_not_overrun(one: list[Section]) -> None:
    tables = formats.as_text(one, width=50).split("Headline metrics")[1].splitlines()[1:8]
    assert all(len(line) <= 50 for line in tables)


def test_markdown_is_a_table_with_or_without_intervals(one: list[Section]) -> None:
    text = formats.as_markdown(one)
    assert (
        "| run | cIoU | mIoU |\n|---|---:|---:|\n| tuned | 0.7127 \\[0.700, 0.725\\] | 0.7382 \\[0.730, 0.746\\] |"
        in text
    )
    assert "| tuned | 0.7127 | 0.7382 |" in formats.as_markdown(one, intervals=False)


def test_no_name_breaks_a_markdown_table(nasty: list[Section]) -> None:
    text = formats.as_markdown(nasty)
    assert "<e>" not in text.replace(r"\<e\>", "")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_protocols_are_never_in_one_table_without_a_word(nasty: list[Section]) -> None:
    for form in (formats.as_text, formats.as_markdown, formats.as_latex):
        text = form(nasty)
        assert "2 protocols (genseg, gres)" in text
        assert text.count("do not compare") == 1


def test_latex_is_balanced_and_escaped(nasty: list[Section]) -> None:
    text = formats.as_latex(nasty, ["all"])
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 3, (
            "two protocols, and one difference"
        )
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\$\\cdot\$", "", text)
    for block in re.findall(r"\\toprule\n(.*?)\\bottomrule", bare, re.DOTALL):
        lines = [line.removesuffix("\\\\") for line in block.splitlines() if line != r"\midrule"]
        assert len({line.count("&") for line in lines}) == 1, block
        assert not set("".join(lines)) & set("%$#_~^<>|")


def test_latex_can_be_typeset(nasty: list[Section], one: list[Section], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on PATH")
    text = formats.as_latex([*one, *nasty], ["genseg-r1"])
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{chr(10)}{text}\end{{document}}"
    (tmp_path / "a.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_holds_every_number_once(one: list[Section]) -> None:
    rows = list(csv.DictReader(io.StringIO(formats.as_csv(one, ["genseg-r1-8b"]))))
    ours = [row for row in rows if row["folder"] != "published"]
    summary = one[0].entries[0].result.summary
    assert len(ours) == sum(len(part.metrics) for part in (summary, *summary.groups.values()))
    (found,) = [row for row in ours if (row["group"], row["metric"]) == ("all", "cIoU")]
    assert (float(found["value"]), float(found["low"]), found["n"]) == (0.71268, 0.7, "2573")
    theirs = {(row["group"], row["metric"]): row["value"] for row in rows if row["folder"] == "published"}
    assert theirs["all", "cIoU"] == "0.7127"
    assert theirs["clean", "cIoU"] == "0.72"


def test_json_says_everything(one: list[Section]) -> None:
    (section,) = json.loads(formats.as_json(one, ["seg-zero"]))
    (run,) = section["runs"]
    assert section["protocol"]["name"] == "genseg"
    assert section["data"]["name"] == "refcocog-val"
    assert run["summary"]["metrics"]["cIoU"] == {"value": 0.71268, "low": 0.7, "high": 0.725, "n": 2573}
    assert (run["model"]["id"], run["mode"], run["missing"]) == ("tuned", "box+2", 0)
    assert section["published"][0]["rows"]["Seg-Zero-7B"]["mIoU"] == 0.7155
    assert any("Different samples" in note for note in section["published"][0]["notes"])


def test_that_nothing_is_published_is_said(one: list[Section], nasty: list[Section]) -> None:
    assert formats.nothing_published(one[0], ["genseg-r1"]) is None
    assert formats.nothing_published(one[0], []) is None
    said = formats.nothing_published(nasty[0], ["genseg-r1-g"])
    assert said == "No published numbers of genseg-r1-g on s|e_t; there are some on grefcoco-val, reasonseg-test."
    assert said in formats.as_text(nasty, ["genseg-r1-g"])


@given(st.text())
def test_any_text_stays_in_its_cell(text: str) -> None:
    from gensegcli.evaluate.report.formats import _md, _tex

    assert "\n" not in _md(text) + _tex(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>]", _md(text))
    assert not re.search(r"(?<!\\)[&%#_]", re.sub(r"\\text\w+\{\}", "", _tex(text)))


@pytest.mark.parametrize(
    ("cell", "text"),
    [(0.0, "0.0000"), (1, "1"), (1.0, "1.0000"), (-0.25, "-0.2500"), (12345, "12,345"), ("", "-"), ("3/s", "3/s")],
)
def test_values_are_as_long_as_they_need_to_be(cell: float | str, text: str) -> None:
    assert formats.value(cell) == text
