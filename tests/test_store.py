from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import ExitCode, GensegError
from gensegcli.store import Records, RunFolder, differences

IDENTITY = {"model.name": "demo", "queries": ["a", "b"], "predict.seed": 0}


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@given(st.lists(st.text(min_size=1), unique=True, max_size=8), st.data())
def test_whatever_was_appended_is_there_and_a_cut_line_is_not(names: list[str], data: st.DataObject) -> None:
    """Cut the file at any byte: exactly the whole lines before the cut survive, and the rest can be added again."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        with Records(path) as records:
            for name in names:
                records.append({"id": name, "value": name * 2})
            assert records.done_ids() == set(names)
            assert [records[name]["value"] for name in names] == [name * 2 for name in names]
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        with Records(path) as records:
            survivors = whole[:cut].count(b"\n")
            assert [record["id"] for record in records] == names[:survivors]
            for name in names[survivors:]:
                records.append({"id": name, "value": name * 2})
        assert path.read_bytes() == whole


def test_an_id_cannot_be_recorded_twice(tmp_path: Path) -> None:
    with Records(tmp_path / "r.jsonl") as records:
        records.append({"id": "a"})
        with pytest.raises(ValueError, match="there already"):
            records.append({"id": "a"})


@pytest.mark.parametrize("damage", [b"\x00\x00\n", b"{}\n", b"[1]\n", b'{"id": "b"\n'])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + damage + b'{"id": "c"}\n')
    with pytest.raises(GensegError, match=r"r\.jsonl:2: not a record"):
        Records(path)


def test_records_are_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    with Records(tmp_path / "r.jsonl") as records:
        for number in range(10):
            records.append({"id": str(number)})
            assert len(_lines(records.path)) == number + 1


WRITER = """
import sys
from pathlib import Path
from gensegcli.store import Records
records = Records(Path(sys.argv[1]))
for number in range(len(records), 10**9):
    records.append({"id": str(number), "pad": "x" * 5000})
"""


def test_a_killed_writer_leaves_whole_records_and_the_next_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    seen = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        deadline = time.monotonic() + 30
        while (not path.exists() or path.stat().st_size <= seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        with Records(path) as records:
            assert len(records) > 0
            assert [record["id"] for record in records] == [str(number) for number in range(len(records))]
            seen = path.stat().st_size


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_full_disk_is_one_line_and_leaves_whole_records(tmp_path: Path) -> None:
    """The operating system itself refuses the write: a process limit on file size acts like a full disk."""
    path = tmp_path / "r.jsonl"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))\n" + WRITER
    done = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)
    assert "GensegError" in done.stderr.splitlines()[-1]
    assert "cannot be saved (File too large)" in done.stderr.splitlines()[-1]
    with Records(path) as records:
        assert records.done_ids() == {"0", "1"}
    assert path.read_bytes().endswith(b"\n")


def test_a_run_with_the_same_identity_goes_on(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", IDENTITY) as run:
        run.records.append({"id": "a"})
        run.failed.append({"id": "b"})
        run.describe({"genseg": "1"})
    with RunFolder(tmp_path / "run", dict(reversed(IDENTITY.items()))) as run:
        assert run.records.done_ids() == {"a"}
        assert not (tmp_path / "run" / "failed.jsonl").exists(), "failures are tried again"
    facts = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert facts["identity"] == IDENTITY
    assert facts["genseg"] == "1"


def test_a_run_with_another_identity_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    RunFolder(tmp_path, IDENTITY).close()
    with pytest.raises(GensegError) as caught:
        RunFolder(tmp_path, {**IDENTITY, "predict.seed": 1, "queries": ["a"], "new": True})
    message = caught.value.message
    assert "predict.seed was 0, is 1" in message
    assert 'queries was ["a","b"], is ["a"]' in message
    assert "new was null, is true" in message
    assert "model.name" not in message
    assert "--restart" in caught.value.hint


def test_pinned_facts_are_held_against_later_attempts(tmp_path: Path) -> None:
    with RunFolder(tmp_path, IDENTITY) as run:
        run.pin({"model_revision": "abc"})
    with RunFolder(tmp_path, IDENTITY) as run:
        run.pin({"model_revision": "abc", "segmenter_revision": None})
        with pytest.raises(GensegError, match='model_revision was "abc", is "def"'):
            run.pin({"model_revision": "def"})


def test_restart_forgets_records_and_identity_and_nothing_else(tmp_path: Path) -> None:
    with RunFolder(tmp_path, IDENTITY) as run:
        run.records.append({"id": "a"})
    (tmp_path / "notes.txt").write_text("mine")
    with RunFolder(tmp_path, {"other": 1}, restart=True) as run:
        assert len(run.records) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_writers_are_kept_apart_and_the_lock_goes_with_its_owner(tmp_path: Path) -> None:
    with RunFolder(tmp_path, IDENTITY):
        with pytest.raises(GensegError, match="another genseg is writing"):
            RunFolder(tmp_path, IDENTITY)
        with pytest.raises(GensegError, match="another genseg is writing"):
            RunFolder(tmp_path, IDENTITY, restart=True)
    RunFolder(tmp_path, IDENTITY).close()


def test_records_without_run_json_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(GensegError, match=r"no run\.json"):
        RunFolder(tmp_path, IDENTITY)
    assert (tmp_path / "predictions.jsonl").read_text() == '{"id": "a"}\n'


def test_a_folder_that_cannot_be_written_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GensegError) as caught:
        RunFolder(tmp_path / "file" / "run", IDENTITY)
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_a_long_list_that_differs_is_shown_in_short() -> None:
    old, new = [f"photos/{n}.jpg" for n in range(900)], [f"photos/{n}.jpg" for n in range(901)]
    (line,) = differences({"inputs": old}, {"inputs": new})
    assert len(line) < 200
    assert "(900 in all), is " in line
    assert line.endswith("(901 in all)")
