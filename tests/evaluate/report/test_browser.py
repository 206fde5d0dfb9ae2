"""The page in a real browser: laid out as meant, light and dark, and without a single request."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from PIL import Image

from gensegcli.evaluate.report.evaluation import Options, evaluation_page
from gensegcli.evaluate.report.sections import sections
from gensegcli.evaluate.results import read_run
from tests.evaluate.report.runs import made_run
from tests.evaluate.report.test_evaluation import HOSTILE
from tests.evaluate.report.test_markup import Reader

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
DARK = "--blink-settings=preferredColorScheme=0"


class Visit(NamedTuple):
    """What a visit to a page left: its document after loading, and the addresses that were asked for."""

    dom: str
    requests: list[str]


class Browser:
    """A headless browser with a new profile for every page."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder, self.count = program, folder, 0

    def _run(self, page: Path, *options: str) -> str:
        self.count += 1
        profile = f"--user-data-dir={self.folder / f'profile{self.count}'}"
        done = subprocess.run(
            [self.program, *QUIET, profile, *options, page.as_uri()],
            capture_output=True, text=True, check=True, timeout=180,
        )  # fmt: skip
        return done.stdout

    def visit(self, page: Path) -> Visit:
        log = self.folder / f"net{self.count}.json"
        dom = self._run(page, "--dump-dom", f"--log-net-log={log}")
        noted = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
        # What the browser asks for on its own account (the time, its updates) has no origin.
        asked = {event["url"] for event in noted if event.get("initiator", "not an origin") != "not an origin"}
        return Visit(dom, sorted(url for url in asked if not url.startswith(("data:", "file:"))))

    def picture(self, page: Path, width: int, height: int, *options: str) -> Image.Image:
        file = self.folder / f"shot{self.count}.png"
        self._run(page, f"--screenshot={file}", f"--window-size={width},{height}", *options)
        return Image.open(file).convert("RGB")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no headless browser on PATH (looked for {', '.join(NAMES)})")
    return Browser(program, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which strangers wrote scripts into every text there is."""
    folder = tmp_path_factory.mktemp("page")
    run = read_run(made_run(folder / "<script>alert(1)", 18, texts=HOSTILE))
    file = folder / "report.html"
    file.write_text(evaluation_page(sections([run]), Options(samples=2)), encoding="utf-8")
    return file


def test_the_page_is_whole_asks_for_nothing_and_runs_nothing(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    written, rendered = Reader(page.read_text(encoding="utf-8")), Reader(visit.dom)
    assert visit.requests == []
    tags = [tag for tag, _ in rendered.elements]
    assert tags.count("article") == [tag for tag, _ in written.elements].count("article") > 3
    assert tags.count("svg") == [tag for tag, _ in written.elements].count("svg")
    assert not {"script", "iframe", "base", "object"} & set(tags)
    for text in (HOSTILE.query, HOSTILE.think, HOSTILE.raw, HOSTILE.data):
        assert text in rendered.text
    assert "owned · genseg" not in visit.dom
    assert "<title>owned" not in visit.dom


def test_a_page_that_does_ask_is_noticed(browser: Browser, tmp_path: Path) -> None:
    asking = tmp_path / "asking.html"
    asking.write_text(
        "<!DOCTYPE html><title>t</title><img src='http://127.0.0.1:9/x.png'>"
        "<link rel='stylesheet' href='https://example.org/a.css'><script>document.title='owned'</script>"
    )
    visit = browser.visit(asking)
    assert visit.requests == ["http://127.0.0.1:9/x.png", "https://example.org/a.css"]
    assert "<title>owned" in visit.dom


def test_the_page_follows_light_and_dark(browser: Browser, page: Path) -> None:
    light, dark = browser.picture(page, 1200, 900), browser.picture(page, 1200, 900, DARK)
    assert light.getpixel((3, 3)) == (255, 255, 255)
    assert dark.getpixel((3, 3)) == (16, 19, 23)
    # Dark text on light, light text on dark: both pages have something to read.
    assert light.convert("L").getextrema()[0] < 60
    assert dark.convert("L").getextrema()[1] > 200


def test_the_pictures_of_the_galleries_are_drawn(browser: Browser, page: Path) -> None:
    """Thousands of colours where the galleries are: plots and text have a handful and their shades."""
    shot = browser.picture(page, 1200, 3400)
    colours = shot.crop((0, 1500, 1200, 3400)).getcolors(maxcolors=10**7)
    assert colours is not None
    assert len(colours) > 5000
    without = page.with_name("without.html")
    without.write_text(page.read_text(encoding="utf-8").replace("data:image/webp;base64,", "data:,"), encoding="utf-8")
    colours = browser.picture(without, 1200, 3400).crop((0, 1500, 1200, 3400)).getcolors(maxcolors=10**7)
    assert colours is not None
    assert len(colours) < 2500


def test_a_narrow_page_is_not_wider_than_the_window(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The widest things scroll by themselves: at the right edge of a narrow window there is paper, all the way down."""
    shot = browser.picture(page, 500, 4000)
    edge = shot.crop((494, 0, 500, 4000)).getcolors()
    assert edge is not None
    assert (6 * 4000, (255, 255, 255)) in edge
