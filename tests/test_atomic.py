"""Files that are there whole or not at all, and never where a link leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gensegcli.atomic import discard, own_folder, replacing, saving
from gensegcli.errors import ExitCode, GensegError
from gensegcli.store import Records, RunFolder, write_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def test_a_file_appears_when_the_block_ends_well_and_not_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.txt"
    with replacing(path) as stream:
        stream.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(TypeError), replacing(path) as stream:
        stream.writelines([b"half", None])  # ty: ignore[invalid-argument-type]
    assert [found.name for found in path.parent.iterdir()] == ["a.txt"]
    assert path.read_bytes() == b"whole"


def test_what_a_kill_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_text("left behind, and longer than what is written now")
    with replacing(tmp_path / "a.txt") as stream:
        stream.write(b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("link", [".run.json.partial", "run.json"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, victim: Path, link: str) -> None:
    (tmp_path / link).symlink_to(victim)
    write_json(tmp_path / "run.json", {"a": 1})
    assert victim.read_text() == "precious"
    assert not (tmp_path / "run.json").is_symlink()
    assert (tmp_path / "run.json").read_text() == '{\n  "a": 1\n}\n'


@pytest.mark.parametrize("target", ["victim", "nothing there"])
@pytest.mark.parametrize("link", ["predictions.jsonl", ".lock"])
def test_a_link_in_place_of_records_is_refused(tmp_path: Path, victim: Path, link: str, target: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / link).symlink_to(tmp_path / target)
    with pytest.raises(GensegError, match=f"{link}: a symbolic link") as caught:
        RunFolder(out, {}, restart=False) if link == ".lock" else Records(out / link)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing there").exists()


def test_failures_of_an_earlier_run_may_be_a_link(tmp_path: Path, victim: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "failed.jsonl").symlink_to(victim)
    with RunFolder(out, {}) as run:
        run.failed.append({"id": "1"})
    assert victim.read_text() == "precious"
    assert (out / "failed.jsonl").read_text() == '{"id":"1"}\n'


def test_a_folder_of_our_own(tmp_path: Path) -> None:
    assert own_folder(tmp_path, "a", "b").is_dir()
    (tmp_path / "c").symlink_to(tmp_path / "a")
    with pytest.raises(GensegError, match="c: a symbolic link"):
        own_folder(tmp_path, "c", "d")
    discard(tmp_path / "c")
    assert (tmp_path / "a" / "b").is_dir()
    discard(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_what_the_system_says_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match=r"cannot be saved \(File name too long\)"), saving(tmp_path):
        (tmp_path / ("x" * 300)).write_text("")
