from __future__ import annotations

import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gensegcli.cli.complete import formats
from gensegcli.predictions import from_json
from gensegcli.records import PromptMode
from tests.cli.conftest import ANSWERS, SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------- what comes out, and where


def test_a_single_picture_is_printed_and_nothing_is_written(genseg: Callable[..., Any], place: Path) -> None:
    result = genseg("predict", "photos/0.png", "dog", "unicorn", "chatter", *SCRIPTED)
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["picture", "query", "answer", "boxes", "(pixels)", "score", "seconds"]
    assert [row.split("  ")[0] for row in rows] == ["photos/0.png"] * 3
    assert "1 found" in rows[0]
    assert "6,4,36,28" in rows[0]
    assert "no target" in rows[1]
    assert "refused: no-answer" in rows[2]
    assert result.stderr.splitlines()[-1] == "3 questions: 1 found, 1 no target, 1 refused"
    assert {entry.name for entry in place.iterdir()} == {"photos", "answers.jsonl"}


def test_json_is_the_prediction_record_and_quiet_leaves_stderr_empty(genseg: Callable[..., Any]) -> None:
    result = genseg("predict", "photos/0.png", "dog", "unicorn", "--json", "-q", "--mode", "box", *SCRIPTED)
    assert result.stderr == ""
    found, absent = map(from_json, _records(result.stdout))
    assert (found.query, len(found.instances), found.prompt_mode) == ("dog", 1, PromptMode.BOX)
    assert found.instances[0].prompt.points == ()
    assert absent.no_target


def test_a_folder_goes_to_its_own_run_and_resumes(genseg: Callable[..., Any], place: Path) -> None:
    arguments = ("predict", "photos", "--query", "dog", "--query", "unicorn", "--json", *SCRIPTED)
    first = genseg(*arguments)
    (run,) = (place / "runs").iterdir()
    assert run.name.startswith("predict-photos-")
    kept = _records((run / "predictions.jsonl").read_text())
    assert {tuple(record.pop("picture")) for record in kept} == {("size", "modified")}
    assert kept == _records(first.stdout)
    assert [record["image"] for record in _records(first.stdout)] == [f"photos/{n // 2}.png" for n in range(12)]
    second = genseg(*arguments)
    assert second.stdout == first.stdout, "the same command again gives the same output"
    assert "12 of them from before" in second.stderr
    assert "loading" not in second.stderr, "with nothing left to ask no model is loaded"


def test_limit_first_and_all_later(genseg: Callable[..., Any], place: Path) -> None:
    arguments = ("predict", "photos", "--query", "dog", "-o", "out", *SCRIPTED)
    assert "2 questions: 2 found" in genseg(*arguments, "--limit", "2").stderr
    assert "6 questions: 6 found, 0 no target, 2 of them from before; in out" in genseg(*arguments).stderr


def test_changed_settings_are_refused_and_restart_begins_anew(genseg: Callable[..., Any], place: Path) -> None:
    arguments = ("predict", "photos", "--query", "dog", "-o", "out", *SCRIPTED)
    genseg(*arguments)
    changed = genseg(*arguments, "--mode", "box", "--seed", "1")
    assert changed.exit_code == 2
    assert changed.stdout == ""
    assert 'predict.mode was "box+2", is "box"; predict.seed was 0, is 1' in changed.stderr
    assert genseg(*arguments, "--device", "cpu", "--set", "model.batch_size=2").exit_code == 0
    with (place / "answers.jsonl").open("a") as answers:
        answers.write('{"query": "cat", "text": ""}\n')
    genseg(*arguments, "--limit", "1")
    (place / "photos" / "new.png").write_bytes((place / "photos" / "0.png").read_bytes())
    other_answers = genseg(*arguments)
    assert other_answers.exit_code == 2
    assert 'model_revision was "sha256:' in other_answers.stderr
    again = genseg(*arguments, "--mode", "box", "--restart")
    assert again.exit_code == 0
    assert "7 questions: 7 found, 0 no target; in out" in again.stderr


def test_restart_leaves_no_file_of_the_earlier_run(genseg: Callable[..., Any], place: Path) -> None:
    arguments = ("predict", "photos", "-o", "out", *SCRIPTED)
    genseg(*arguments, "--query", "dog", "--save", "png,overlay,coco")
    (place / "out" / "png" / "mine.png").write_bytes(b"mine")
    assert genseg(*arguments, "--query", "unicorn", "--save", "png", "--restart").exit_code == 0
    files = {path.relative_to(place / "out").as_posix() for path in (place / "out").rglob("*") if path.is_file()}
    assert not [name for name in files if "dog" in name]
    assert {name for name in files if not name.startswith("png/")} == {".lock", "run.json", "predictions.jsonl"}
    assert len([name for name in files if name.startswith("png/")]) == 7
    assert "png/mine.png" in files


def test_questions_asked_twice_are_counted(genseg: Callable[..., Any], place: Path) -> None:
    row = json.dumps({"image": "photos/0.png", "query": "dog"}) + "\n"
    (place / "pairs.jsonl").write_text(3 * row)
    assert (
        "1 question: 1 found, 0 no target, 2 asked before were left out"
        in genseg("predict", "pairs.jsonl", *SCRIPTED).stderr
    )


def test_every_format_is_saved(genseg: Callable[..., Any], place: Path) -> None:
    formats = "overlay,png,rle,coco,yolo,geojson"
    result = genseg("predict", "photos/0.png", "dog", "unicorn", "--save", formats, "-o", "out", *SCRIPTED)
    assert result.exit_code == 0
    for name in ("overlay", "png", "rle", "geojson"):
        assert len(list((place / "out" / name).iterdir())) == 2, name
    assert len(json.loads((place / "out" / "coco.json").read_bytes())["annotations"]) == 1
    assert list((place / "out" / "yolo" / "labels").iterdir())
    with Image.open(next((place / "out" / "png").glob("*dog*"))) as mask:
        assert np.count_nonzero(np.asarray(mask)) == 30 * 24


def test_several_completions_are_several_predictions(genseg: Callable[..., Any], place: Path) -> None:
    texts = [ANSWERS["dog"], ANSWERS["unicorn"], ANSWERS["dog"]]
    (place / "answers.jsonl").write_text("".join(json.dumps({"query": "dog", "text": text}) + "\n" for text in texts))
    arguments = ("predict", "photos", "--query", "dog", "-o", "out", "--save", "png,coco", "--json", *SCRIPTED)
    refused = genseg(*arguments, "--n", "3")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "n=3 with temperature 0" in refused.stderr
    assert not (place / "out").exists()
    for attempt in ("asked", "recorded"):
        result = genseg(*arguments, "--n", "3", "--temperature", "0.7")
        assert result.exit_code == 0, result.stderr
        assert result.stderr.splitlines()[-1].startswith("18 answers: 12 found, 6 no target"), attempt
        ids = [json.loads(line)["id"] for line in result.stdout.splitlines()]
        assert [name.partition("#")[2] for name in ids] == ["", "1", "2"] * 6
    assert len(list((place / "out" / "png").iterdir())) == 18
    annotations = json.loads((place / "out" / "coco.json").read_bytes())["annotations"]
    assert {annotation["prediction_id"] for annotation in annotations} == {name for name in ids if "#1" not in name}


def test_manifests_and_stdin(genseg: Callable[..., Any], place: Path) -> None:
    rows = [{"image": f"photos/{n}.png", "query": "dog", "id": f"id-{n}"} for n in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "pairs.jsonl").write_text(text)
    from_file = genseg("predict", "pairs.jsonl", "--json", *SCRIPTED)
    from_stdin = genseg("predict", "-", "--json", *SCRIPTED, stdin=text)
    for result in (from_file, from_stdin):
        assert result.exit_code == 0
        assert [record["id"] for record in _records(result.stdout)] == ["id-0", "id-1", "id-2"]
    assert {run.name.rsplit("-", 1)[0] for run in (place / "runs").iterdir()} == {"predict-pairs", "predict-stdin"}


def test_dry_run_says_what_would_happen_and_does_nothing(genseg: Callable[..., Any], place: Path) -> None:
    arguments = (
        "predict",
        "photos",
        "--query",
        "dog",
        "--preset",
        "genseg-r1-8b",
        "--set",
        "predict.seed=3",
        *SCRIPTED,
    )
    result = genseg(*arguments, "--dry-run")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "model Qwen/Qwen3-VL-8B-Instruct" in text
    assert "model memory 18 GB of weights in 16 bits" in text
    assert "backend scripted: asked for" in text
    assert "questions 6" in text
    assert "out runs/predict-photos-" in text
    assert "predict.seed 3 --set" in text
    assert "segmenter.name boxfill flag" in text
    assert "predict.max_tokens 1500 preset genseg-r1-8b" in text
    plan = json.loads(genseg(*arguments, "--dry-run", "--json").stdout)
    assert plan["questions"] == 6
    assert plan["settings"]["predict.seed"] == {"value": 3, "from": "--set"}
    choice = ("--query", "dog", "--model", "qwen3-vl-4b", "--device", "cpu", "--dry-run", "--json")
    plan = json.loads(genseg("predict", "photos", *choice).stdout)
    assert plan["backend"] == "transformers: device cpu was asked for, which vllm cannot be told"
    assert not (place / "runs").exists()


def test_fail_on_no_target(genseg: Callable[..., Any]) -> None:
    assert genseg("predict", "photos/0.png", "dog", "--fail-on-no-target", *SCRIPTED).exit_code == 0
    assert genseg("predict", "photos/0.png", "dog", "unicorn", "--fail-on-no-target", *SCRIPTED).exit_code == 7


def test_a_prompt_file_is_asked_and_its_digest_kept(genseg: Callable[..., Any], place: Path) -> None:
    (place / "prompt.txt").write_text("Find {query}, please.")
    arguments = ("predict", "photos/0.png", "dog", "--json", *SCRIPTED)
    plain, custom = genseg(*arguments), genseg(*arguments, "--prompt-file", "prompt.txt")
    assert _records(plain.stdout)[0]["prompt_digest"] != _records(custom.stdout)[0]["prompt_digest"]


# ---------------------------------------------------------------- bad input


def _bomb(path: Path) -> None:
    """A valid PNG of 20000 × 15000 pixels in 37 kB."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(2501 * 15000), 9)
    header = struct.pack(">IIBBBBB", 20000, 15000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuch.png", "dog"], 4, "nosuch.png: no such file or folder"),
        (["photos/0.pgn", "dog"], 4, "no such file or folder"),
        (["answers.txt", "dog"], 2, "answers.txt: not a picture"),
        (["cut.jpg", "dog"], 2, "cut.jpg: the picture is cut short"),
        (["bomb.png", "dog"], 2, "bomb.png: 20000×15000 is 300 megapixels"),
        (["photos/0.png", ""], 2, "the expression '' is empty"),
        (["photos/0.png", "x" * 10_000], 2, "10000 characters"),
        (["photos/0.png"], 2, "no expression was given"),
        (["photos"], 2, "no expression was given"),
        (["empty", "dog"], 4, "empty: no pictures"),
        (["photos/0.png", "photos/1.png"], 2, "is a file, but stands where an expression is expected"),
        (["photos/0.png", "dog", "--model", "qwen3-vl-3b"], 4, "unknown model 'qwen3-vl-3b'"),
        (["photos/0.png", "dog", "--segmenter", "sam2-lage"], 4, "unknown segmenter 'sam2-lage'"),
        (["photos/0.png", "dog", "--backend", "vlm"], 4, "unknown backend 'vlm'"),
        (["photos/0.png", "dog", "--backend", "transformers"], 4, "not in the hub cache"),
        (["photos/0.png", "dog", "--segmenter", "sam2-large"], 4, "not in the hub cache"),
        (["photos/0.png", "dog", "--model", "wrong"], 4, "model_type 'bert'"),
        (["photos/0.png", "dog", "--save", "overlays", "-o", "out"], 4, "unknown export format 'overlays'"),
        (["photos/0.png", "dog", "--temperature", "-1"], 2, "predict.temperature (flag)"),
        (["photos/0.png", "dog", "--prompt-file", "none.txt"], 4, "none.txt: cannot be read"),
        (["photos/0.png", "dog", "--config", "none.toml"], 4, "none.toml: cannot be read"),
        (["photos/0.png", "dog", "--answers", "none.jsonl"], 4, "none.jsonl"),
        (["photos", "--query", "dog", "-o", "answers.txt"], 3, "answers.txt"),
        (["photos", "--query", "caf\udce9"], 2, "the expression is not valid UTF-8"),
        (["caf\udce9/", "--query", "dog"], 2, "is not valid UTF-8"),
        (["photos", "--query", "dog", "--seed", "99999999999999999999"], 2, "predict.seed (flag)"),
    ],
)
def test_bad_input_is_one_line(
    genseg: Callable[..., Any], place: Path, arguments: list[str], code: int, message: str
) -> None:
    (place / "answers.txt").write_text("not a picture")
    (place / "empty").mkdir()
    (place / "wrong").mkdir()
    (place / "wrong" / "config.json").write_text('{"model_type": "bert"}')
    jpeg = io.BytesIO()
    Image.effect_noise((200, 200), 50).convert("RGB").save(jpeg, "JPEG")
    (place / "cut.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    if "bomb.png" in arguments:
        _bomb(place / "bomb.png")
    result = genseg("predict", *SCRIPTED, *arguments, "-q")
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    error, *hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert all(line.startswith("hint: ") for line in hint)
    assert len(hint) <= 1
    assert not (place / "runs").exists()


@pytest.mark.parametrize("kind", ["16 bit", "CMYK", "grey", "palette", "rotated", "1x1", "20000x50"])
def test_unusual_pictures_are_answered(genseg: Callable[..., Any], place: Path, kind: str) -> None:
    path = place / "odd.png"
    pictures: dict[str, Callable[[], None]] = {
        "16 bit": lambda: Image.fromarray(np.full((40, 60), 40000, np.uint16)).save(path),
        "CMYK": lambda: Image.new("CMYK", (60, 40), (10, 20, 30, 40)).save(path, format="JPEG"),
        "grey": lambda: Image.new("L", (60, 40), 99).save(path),
        "palette": lambda: Image.new("P", (60, 40), 3).save(path, transparency=3),
        "rotated": lambda: _rotated(path),
        "1x1": lambda: Image.new("RGB", (1, 1)).save(path),
        "20000x50": lambda: Image.new("RGB", (20000, 50)).save(path),
    }
    pictures[kind]()
    result = genseg("predict", "odd.png", "dog", "--json", "-q", *SCRIPTED)
    assert result.exit_code == 0, result.stderr
    (record,) = _records(result.stdout)
    size = {"rotated": (40, 60), "1x1": (1, 1), "20000x50": (20000, 50)}.get(kind, (60, 40))
    assert (record["width"], record["height"]) == size
    assert record["instances"][0]["mask"]["size"] == [size[1], size[0]]


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(path, format="JPEG", exif=exif)


def test_one_bad_picture_does_not_end_a_batch(genseg: Callable[..., Any], place: Path) -> None:
    (place / "photos" / "2.png").write_bytes(b"\x89PNG broken")
    result = genseg("predict", "photos", "--query", "dog", "--json", "-o", "out", *SCRIPTED)
    assert result.exit_code == 5
    assert [record["image"] for record in _records(result.stdout)] == [f"photos/{n}.png" for n in (0, 1, 3, 4, 5)]
    (failure,) = _records((place / "out" / "failed.jsonl").read_text())
    assert failure["image"] == "photos/2.png"
    assert f"error: {failure['error']}" in result.stderr.splitlines()


# ---------------------------------------------------------------- servers


class _Garbage(BaseHTTPRequestHandler):
    def _reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<html>It works!</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _reply  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def garbage() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Garbage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def down() -> Iterator[str]:
    """An address that nobody answers: its port is taken, but nothing listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.mark.parametrize("server", ["down", "garbage"])
def test_a_server_that_is_down_or_returns_garbage_is_one_line(
    genseg: Callable[..., Any], request: pytest.FixtureRequest, server: str
) -> None:
    pytest.importorskip("openai")
    address = request.getfixturevalue(server)
    result = genseg(
        *("predict", "photos/0.png", "dog", "--base-url", address, "--segmenter", "boxfill", "-q"),
        *("--set", "model.retries=0", "--set", "model.timeout=5"),
    )
    assert result.exit_code == 3, result.stderr
    assert result.stdout == ""
    error, *_ = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert address in error
    assert len(result.stderr.splitlines()) <= 2


def test_what_auto_chose_is_pinned_and_secrets_are_not_stored(genseg: Callable[..., Any], place: Path) -> None:
    arguments = ("predict", "photos", "--query", "dog", "-o", "out", *SCRIPTED)
    secret = ("--base-url", "http://me:secret@127.0.0.1:1/v1")
    first = genseg(*arguments, *secret, "--limit", "1")
    assert first.exit_code == 0
    path = place / "out" / "run.json"
    assert "secret" not in path.read_text() + first.stderr
    run = json.loads(path.read_bytes())
    assert run["pinned"]["backend"] == "scripted"
    run["pinned"]["backend"] = "transformers"  # as if another machine had begun it
    path.write_text(json.dumps(run))
    again = genseg(*arguments)
    assert again.exit_code == 2
    assert 'backend was "transformers", is "scripted"' in again.stderr


# ---------------------------------------------------------------- one folder, many questions


def test_more_questions_under_the_same_settings_are_added(genseg: Callable[..., Any], place: Path) -> None:
    first = genseg("predict", "photos/0.png", "dog", "-o", "out", "--save", "coco,png", *SCRIPTED)
    assert first.exit_code == 0
    second = genseg("predict", "photos/1.png", "unicorn", "chatter", "-o", "out", "--save", "coco,png", *SCRIPTED)
    assert second.exit_code == 0, second.stderr
    assert second.stderr.splitlines()[-1] == "2 questions: 0 found, 1 no target, 1 refused; in out"
    kept = _records((place / "out" / "predictions.jsonl").read_text())
    assert [(record["image"], record["query"]) for record in kept] == [
        ("photos/0.png", "dog"),
        ("photos/1.png", "unicorn"),
        ("photos/1.png", "chatter"),
    ]
    content = json.loads((place / "out" / "coco.json").read_bytes())
    assert [image["file_name"] for image in content["images"]] == ["1.png"], "of the questions of this command"
    assert len(list((place / "out" / "png").iterdir())) == 3
    again = genseg("predict", "photos/0.png", "dog", "-o", "out", "--save", "coco", *SCRIPTED)
    assert "1 question: 1 found, 0 no target, 1 of them from before" in again.stderr
    content = json.loads((place / "out" / "coco.json").read_bytes())
    assert [image["file_name"] for image in content["images"]] == ["0.png"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["--mode", "box"], 'predict.mode was "box+2", is "box"'),
        (["--model", "demo"], 'model.name was "qwen3-vl-4b", is "demo"'),
        (["--segmenter", "demo"], 'segmenter.name was "boxfill", is "demo"'),
        (["--prompt-file", "prompt.txt"], "prompt was null, is"),
    ],
)
def test_another_model_or_setting_in_the_same_folder_is_refused_by_name(
    genseg: Callable[..., Any], place: Path, other: list[str], words: str
) -> None:
    (place / "prompt.txt").write_text("Find {query}.")
    genseg("predict", "photos/0.png", "dog", "-o", "out", *SCRIPTED)
    refused = genseg("predict", "photos/1.png", "dog", "-o", "out", *SCRIPTED, *other)
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "inputs" not in refused.stderr


def test_streams_that_share_a_folder_export_their_own_questions(genseg: Callable[..., Any], place: Path) -> None:
    def stream(number: int) -> bytes:
        return json.dumps({"image": f"photos/{number}.png", "query": "dog"}).encode() + b"\n"

    for number in (0, 3):
        result = genseg("predict", "-", "--save", "coco", *SCRIPTED, stdin=stream(number))
        assert result.exit_code == 0
        assert "1 question: 1 found" in result.stderr
        (run,) = (place / "runs").iterdir()
        content = json.loads((run / "coco.json").read_bytes())
        assert [image["file_name"] for image in content["images"]] == [f"{number}.png"]


# ---------------------------------------------------------------- standard input, folders


def test_a_picture_on_standard_input_is_answered_and_only_printed(genseg: Callable[..., Any], place: Path) -> None:
    content = (place / "photos" / "0.png").read_bytes()
    result = genseg("predict", "-", "dog", "--json", *SCRIPTED, stdin=content)
    assert result.exit_code == 0, result.stderr
    (record,) = _records(result.stdout)
    assert record["image"].startswith("bytes:")
    assert record["width"] == 60
    assert not (place / "runs").exists()
    saved = genseg(
        "predict", "-", "dog", "-o", "out", "--save", "overlay,yolo", "--copy-images", *SCRIPTED, stdin=content
    )
    assert saved.exit_code == 0, saved.stderr
    assert len(list((place / "out" / "overlay").iterdir())) == 1
    (copy,) = (place / "out" / "yolo" / "images").iterdir()
    with Image.open(copy) as image:
        assert image.size == (60, 40)


def test_what_is_no_picture_on_standard_input_is_one_line(genseg: Callable[..., Any], place: Path) -> None:
    for content in (b"\x00\x01" * 5000, b"garbage\n" * 133, b"[]"):
        result = genseg("predict", "-", "dog", *SCRIPTED, stdin=content)
        assert result.exit_code != 0
        assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1
        assert not (place / "runs").exists()


def test_paths_on_standard_input(genseg: Callable[..., Any], place: Path) -> None:
    result = genseg("predict", "-", "--query", "dog", *SCRIPTED, stdin=b"photos/0.png\nphotos/3.png\n")
    assert "2 questions: 2 found" in result.stderr


def test_what_a_folder_holds_beside_pictures_is_said_in_one_line(genseg: Callable[..., Any], place: Path) -> None:
    for name in ("page.pdf", "noext", "sub/deep.png"):
        (place / "photos" / name).parent.mkdir(exist_ok=True)
        (place / "photos" / name).write_bytes((place / "photos" / "0.png").read_bytes())
    flat = genseg("predict", "photos", "--query", "dog", "-o", "flat", *SCRIPTED)
    assert "note: left out: 1 PDF, 1 without ending, 1 folder (--recursive goes into folders)" in flat.stderr
    assert "6 questions" in flat.stderr
    deep = genseg("predict", "photos", "--recursive", "--query", "dog", "-o", "deep", *SCRIPTED)
    assert "note: left out: 1 PDF, 1 without ending\n" in deep.stderr
    assert "7 questions" in deep.stderr
    assert "note" not in genseg("predict", "photos", "--query", "dog", "-o", "quiet", "-q", *SCRIPTED).stderr


def test_a_picture_that_cannot_be_read_is_told_once(genseg: Callable[..., Any], place: Path) -> None:
    (place / "photos" / "1.png").write_bytes(b"")
    result = genseg("predict", "photos", "--query", "dog", "--query", "unicorn", "-o", "out", *SCRIPTED)
    assert result.exit_code == 5
    assert result.stderr.count("photos/1.png: empty, not a picture") == 1
    assert "2 failed" in result.stderr


# ---------------------------------------------------------------- options


def test_copied_pictures_and_a_root(genseg: Callable[..., Any], place: Path) -> None:
    options = ("--save", "coco,yolo", "--copy-images", "--images-root", ".", "-o", "out")
    assert genseg("predict", "photos", "--query", "dog", *options, *SCRIPTED).exit_code == 0
    content = json.loads((place / "out" / "coco.json").read_bytes())
    assert [image["file_name"] for image in content["images"]] == [f"photos/{n}.png" for n in range(6)]
    assert content["info"]["images_root"] == "."
    assert sorted(path.name for path in (place / "out" / "yolo" / "images").iterdir()) == [f"{n}.png" for n in range(6)]
    for option in (["--copy-images"], ["--images-root", "x"]):
        refused = genseg("predict", "photos/0.png", "dog", *option, *SCRIPTED)
        assert refused.exit_code == 2
        assert option[0] in refused.stderr


def test_save_all_is_every_format(genseg: Callable[..., Any], place: Path) -> None:
    assert genseg("predict", "photos/0.png", "dog", "--save", "all", "-o", "out", *SCRIPTED).exit_code == 0
    assert {"overlay", "png", "rle", "coco.json", "yolo", "geojson"} <= {
        path.name for path in (place / "out").iterdir()
    }


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["overlay", "png", "rle", "coco", "yolo", "geojson", "all"]),
        ("o", ["overlay"]),
        ("png,c", ["png,coco"]),
        ("coco,yolo,", ["coco,yolo,overlay", "coco,yolo,png", "coco,yolo,rle", "coco,yolo,geojson"]),
    ],
)
def test_formats_are_completed(typed: str, offered: list[str]) -> None:
    assert formats(typed) == offered


def test_the_prompt_mode_has_one_name_and_an_older_one(genseg: Callable[..., Any]) -> None:
    for option in ("--prompt-mode", "--mode"):
        result = genseg("predict", "photos/0.png", "dog", "--json", option, "box", *SCRIPTED)
        assert _records(result.stdout)[0]["prompt_mode"] == "box"
    wrong = genseg("predict", "photos/0.png", "dog", "--set", "mode=box", *SCRIPTED)
    assert "did you mean predict.mode?" in wrong.stderr


def test_a_plan_shows_the_settings_that_predicting_uses(genseg: Callable[..., Any]) -> None:
    shown = genseg("predict", "photos/0.png", "dog", "--dry-run", *SCRIPTED).stdout
    assert "predict.mode" in shown
    assert not {"train.", "reward.", "eval."} & {word.partition(".")[0] + "." for word in shown.split()}


def test_a_manifest_in_json_is_named_as_a_slip(genseg: Callable[..., Any], place: Path) -> None:
    (place / "pairs.json").write_text('[{"image": "photos/0.png", "query": "dog"}]')
    for more in ([], ["dog"]):
        result = genseg("predict", "pairs.json", *more, *SCRIPTED)
        assert result.exit_code == 2
        assert "manifests are .jsonl" in result.stderr


def test_an_empty_mask_is_not_simply_found(
    genseg: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gensegcli.segmenter.boxfill.fill", lambda _box, height, width: np.zeros((height, width), dtype=bool)
    )
    result = genseg("predict", "photos", "--query", "dog", "-o", "out", "--save", "coco,yolo", *SCRIPTED)
    assert result.exit_code == 0
    assert "1 found, but its mask is empty" in result.stdout
    assert "6 questions: 6 found (6 with an empty mask), 0 no target" in result.stderr
    assert "note: coco: 6 objects left out, having an empty mask" in result.stderr
    assert "note: yolo: 6 pictures left out" in result.stderr
    assert json.loads((place / "out" / "coco.json").read_bytes())["annotations"] == []
    assert list((place / "out" / "yolo" / "labels").iterdir()) == []
    strict = genseg("predict", "photos", "--query", "dog", "--fail-on-no-target", "-o", "out", *SCRIPTED)
    assert strict.exit_code == 0, "the model did not say that nothing is there"
    records = _records((place / "out" / "predictions.jsonl").read_text())
    assert [instance["empty"] for record in records for instance in record["instances"]] == [True] * 6
