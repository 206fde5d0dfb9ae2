"""Hub sets over HTTP: the real client against a server on this machine that answers as the hub does, and misbehaves."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gensegcli.errors import ExitCode
from gensegcli.prep.recipe import resolve
from gensegcli.sources.prepared import read_card, read_prepared
from tests.sources.hub_server import COMMIT, CONVERTED, Hub, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("huggingface_hub")

TOKEN = "hf_ThisIsNobodysToken"
RECIPE = "refcocog-val-hub"
ROWS = {"data/test-00000-of-00002.parquet": 200, "data/test-00001-of-00002.parquet": 150}


def _parquet(rows: int, first: int) -> bytes:
    """Rows in the form of the published evaluation copies: image, text, mask, image_id, ann_id, sizes."""
    rng = np.random.default_rng(first)
    table = []
    for number in range(first, first + rows):
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(picture, "JPEG")
        mask = np.zeros((12, 16), bool)
        mask[2:9, number % 8 : number % 8 + 6] = True
        image = {"bytes": picture.getvalue(), "path": None}
        ids = {"image_id": number, "ann_id": 10 * number, "img_height": 12, "img_width": 16}
        table.append({"image": image, "text": f"thing {number}", "mask": mask.tolist(), **ids})
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), stream, row_group_size=50)
    return stream.getvalue()


FILES = {"README.md": b"# a set", **{name: _parquet(rows, 1000 * at) for at, (name, rows) in enumerate(ROWS.items())}}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving({resolve(RECIPE).source.id: FILES}) as hub:  # ty: ignore[unresolved-attribute]
        yield hub


def prep(hub: Hub, folder: Path, *options: str, recipe: str = RECIPE, offline: str = "0") -> tuple[int, str]:
    """`genseg prep` in a process of its own; its exit code and what it said."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "gensegcli", "prep", recipe, "--root", str(folder / "raw"), "--workers", "1"]
    done = subprocess.run(
        [*command, "--out", str(folder / "out"), *options], env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert TOKEN not in said
    written = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    return done.returncode, said


def _samples(folder: Path) -> list[tuple]:
    return [(s.id, s.query, s.image, s.targets) for s in read_prepared(folder / "out")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    """The set made from copies of the same files on this machine."""
    folder = tmp_path_factory.mktemp("copies")
    for name in ROWS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    code, said = prep(Hub({}), folder, "--files", str(folder / "data"), offline="1")
    assert code == 0, said
    return _samples(folder)


def test_a_set_is_read_piece_by_piece_at_one_commit(hub: Hub, tmp_path: Path, expected: list[tuple]) -> None:
    code, said = prep(hub, tmp_path)

    assert code == 0, said
    assert _samples(tmp_path) == expected
    assert len(expected) == 350
    assert hub.tokens == {TOKEN}, "sent to the hub, and said nowhere else"
    pieces = [line for line in hub.asked if "/resolve/" in line]
    assert all(f"/resolve/{COMMIT}/" in line for line in pieces), "no mixture of two versions"
    assert not list((tmp_path / "home").rglob("*.parquet")), "nothing is downloaded as a whole"


def test_broken_connections_and_a_busy_hub_are_tried_again(hub: Hub, tmp_path: Path, expected: list[tuple]) -> None:
    hub.cut = hub.busy = 1

    code, said = prep(hub, tmp_path)

    assert (hub.cut, hub.busy) == (0, 0), "both happened"
    assert code == 0, said
    assert _samples(tmp_path) == expected


def test_a_set_that_is_lost_in_the_middle_is_gone_on_with(hub: Hub, tmp_path: Path, expected: list[tuple]) -> None:
    """Nothing is skipped for it: what was built stays, and the same command ends with the same set."""
    whole = prep(hub, tmp_path / "whole")
    assert whole[0] == 0, whole[1]
    hub.lost_after = sum(hub.pieces.values()) * 2 - 1

    code, said = prep(hub, tmp_path)
    assert code == ExitCode.NOT_FOUND
    assert "error: hf://datasets/" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    (shard,) = (tmp_path / "out" / "data").glob("*.parquet")
    stamp = shard.stat().st_mtime_ns

    hub.lost_after = None
    code, said = prep(hub, tmp_path)

    assert code == 0, said
    assert shard.stat().st_mtime_ns == stamp, "not built again"
    assert _samples(tmp_path) == expected


def test_another_commit_is_not_mixed_into_a_set_that_was_begun(hub: Hub, tmp_path: Path) -> None:
    assert prep(hub, tmp_path)[0] == 0
    assert read_card(tmp_path / "out")["sources"] == {"Ricky06662/refcocog_val": COMMIT}
    hub.commit = COMMIT[::-1]

    code, said = prep(hub, tmp_path)

    assert code == ExitCode.USAGE
    assert "made otherwise: sources.Ricky06662/refcocog_val was" in said


def test_a_set_without_parquet_files_is_read_from_the_hub_s_conversion(
    hub: Hub, tmp_path: Path, expected: list[tuple]
) -> None:
    (name,) = hub.sets
    hub.converted[name] = hub.sets[name]
    hub.sets[name] = {"README.md": b"# a set", "rows.csv": b""}

    code, said = prep(hub, tmp_path)

    assert code == 0, said
    assert _samples(tmp_path) == expected
    assert read_card(tmp_path / "out")["sources"] == {name: CONVERTED}
    hub.converted = {}
    assert "the hub has no Parquet files of it" in prep(hub, tmp_path, "--restart")[1]


def test_offline_asks_nothing(hub: Hub, tmp_path: Path) -> None:
    code, said = prep(hub, tmp_path, offline="1")

    assert code == ExitCode.NOT_FOUND
    assert "HF_HUB_OFFLINE is set" in said
    assert hub.asked == []


def test_a_set_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    code, said = prep(hub, tmp_path, recipe="refcocog-test-hub")

    assert code == ExitCode.NOT_FOUND
    assert "the hub has no such data set" in said
    assert "--files" in said
    assert "Traceback" not in said


def test_no_hub_at_all(tmp_path: Path) -> None:
    code, said = prep(Hub({}, endpoint="http://127.0.0.1:9"), tmp_path)

    assert code == ExitCode.NOT_FOUND
    assert "the hub cannot be reached" in said
    assert "Traceback" not in said
