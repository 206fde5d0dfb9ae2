"""Names of models: the table, hub ids, local folders, the cache, and every way in which one is not to be had."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gensegcli import checkpoints
from gensegcli.errors import ExitCode, GensegError
from gensegcli.families import FAMILIES, Coordinates
from gensegcli.models import (
    CARD,
    DEFAULT_POLICY,
    DEFAULT_SEGMENTER,
    POLICIES,
    SEGMENTERS,
    resolve_policy,
    resolve_segmenter,
)
from gensegcli.records import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(folder: Path, model_type: str = "qwen3_vl", **files: dict) -> Path:
    """A folder with the small files of a checkpoint and something in place of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"config": {"model_type": model_type}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, offline."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def put_in_cache(cache: Path, repo: str, model_type: str = "qwen3_vl", **files: dict) -> Path:
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return write(root / "snapshots" / COMMIT, model_type, **files)


# ---------------------------------------------------------------- the table


def test_the_table_says_what_the_method_says() -> None:
    assert POLICIES[DEFAULT_POLICY].source == "Qwen/Qwen3-VL-4B-Instruct"
    assert SEGMENTERS[DEFAULT_SEGMENTER].source == "facebook/sam2-hiera-large"
    assert SEGMENTERS["sam2.1-base-plus"].source == "facebook/sam2.1-hiera-base-plus"
    for size in ("2b", "4b", "8b", "32b"):
        entry = POLICIES[f"qwen3-vl-{size}"]
        assert entry.source == f"Qwen/Qwen3-VL-{size.upper()}-Instruct"
        assert (entry.coordinates, entry.factor) == (Coordinates.GRID, 32)
    for size in ("3b", "7b"):
        entry = POLICIES[f"qwen2.5-vl-{size}"]
        assert entry.source == f"Qwen/Qwen2.5-VL-{size.upper()}-Instruct"
        assert (entry.coordinates, entry.factor) == (Coordinates.RESIZED_PIXELS, 28)
    assert POLICIES["seg-zero-7b"].squash == (840, 840)


def test_rows_are_consistent() -> None:
    assert all(alias == entry.alias for table in (POLICIES, SEGMENTERS) for alias, entry in table.items())
    for entry in POLICIES.values():
        assert entry.family in FAMILIES
        assert entry.segmenter in SEGMENTERS
        assert 0 < entry.min_pixels < entry.max_pixels


def test_a_prompt_of_the_training_setting_holds_the_largest_picture() -> None:
    assert all(entry.max_pixels // entry.factor**2 <= 1280 for entry in POLICIES.values())


# ---------------------------------------------------------------- local folders


def test_config_json_decides_the_family(tmp_path: Path) -> None:
    grid = resolve_policy(str(write(tmp_path / "a", "qwen3_vl")))
    pixels = resolve_policy(str(write(tmp_path / "b", "qwen2_5_vl")))
    assert (grid.entry.coordinates, grid.entry.dialect) == (Coordinates.GRID, "genseg")
    assert (pixels.entry.coordinates, pixels.entry.dialect) == (Coordinates.RESIZED_PIXELS, "genseg-pixels")
    assert grid.cached
    assert grid.fetch() is grid
    assert (grid.id, grid.path) == (str(tmp_path / "a"), tmp_path / "a")


def test_the_card_beside_the_weights_wins(tmp_path: Path) -> None:
    card = {
        "dialect": "seg-zero",
        "coordinates": "resized-pixels",
        "prompt_digest": "0123456789ab",
        "segmenter": "sam2.1-tiny",
        "min_pixels": 1000,
        "max_pixels": 2000,
        "squash": [840, 840],
        "written_by": "a later version",
    }
    folder = write(tmp_path / "a", genseg=card)
    found = resolve_policy(str(folder))
    assert found.prompt_digest == "0123456789ab"
    assert found.entry == replace(
        resolve_policy(str(write(tmp_path / "b"))).entry,
        alias=str(folder),
        source=str(folder),
        dialect="seg-zero",
        coordinates=Coordinates.RESIZED_PIXELS,
        segmenter="sam2.1-tiny",
        min_pixels=1000,
        max_pixels=2000,
        squash=Size(840, 840),
    )


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        ('{"coordinates": "inches"}', "coordinates: input should be 'grid' or 'resized-pixels', 'inches' found"),
        ('{"max_pixels": "many"}', "max_pixels: input should be a valid integer"),
        ('{"max_pixels": 0}', "max_pixels: input should be greater than or equal to 1, 0 found"),
        ('{"min_pixels": 1e999}', "min_pixels: input should be a finite number, inf found"),
        ('{"min_pixels": ' + "9" * 5000 + "}", "min_pixels: input should be a finite number, inf found"),
        ('{"min_pixels": NaN}', "min_pixels: input should be a finite number, nan found"),
        ('{"min_pixels": 5000000}', "min_pixels: at most the 1310720 of max_pixels expected, 5000000 found"),
        ('{"squash": [1]}', "squash.1: field required"),
        ('{"squash": [840, 0]}', "squash.1: input should be greater than or equal to 1, 0 found"),
        ('{"squash": [840, 1e300]}', "squash.1: "),
        ('{"squash": 4}', "squash: input should be a valid tuple, 4 found"),
        ('{"dialect": ["genseg"]}', "dialect: input should be a valid string, ['genseg'] found"),
        ("[" * 100_000, ""),
        ("[1]", "a JSON object expected, a list found"),
        ('{"dialect": "\\ud800"}', "holds text that is not Unicode"),
        ('{"dialect": ', "not JSON ("),
    ],
)
def test_a_bad_card_is_named(tmp_path: Path, card: str, complaint: str) -> None:
    folder = write(tmp_path / "a")
    (folder / CARD).write_text(card)
    with pytest.raises(GensegError) as caught:
        resolve_policy(str(folder))
    assert caught.value.message.startswith(f"{folder / CARD}: {complaint}")
    assert caught.value.code is ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("config.json", "[" * 100_000, ""),
        ("config.json", '{"model_type": "qwen3_vl", "a": ' + "[" * 100_000, ""),
        (
            "config.json",
            '{"model_type": "qwen3_vl", "text_config": {"num_attention_heads": 0}}',
            "text_config.num_attention_heads: a whole number from 1 expected, 0 found",
        ),
        (
            "config.json",
            '{"model_type": "qwen3_vl", "vision_config": {"patch_size": 1.5}}',
            "vision_config.patch_size: a whole number from 1 expected, 1.5 found",
        ),
        ("preprocessor_config.json", '{"patch_size": 0}', "patch_size: a whole number from 1 expected, 0 found"),
        ("preprocessor_config.json", '{"max_pixels": 0}', "max_pixels: a whole number from 1 expected, 0 found"),
        ("preprocessor_config.json", '{"merge_size": "2"}', "merge_size: a whole number from 1 expected, '2' found"),
        (
            "processor_config.json",
            '{"image_processor": {"size": {"longest_edge": 1e999}}}',
            "image_processor.size.longest_edge: a whole number from 1 expected, inf found",
        ),
        ("processor_config.json", '{"image_processor": [1]}', "not the settings of an image processor"),
        ("processor_config.json", "[" * 100_000, ""),
    ],
)
def test_a_size_that_is_none_is_named_with_its_file_and_key(
    tmp_path: Path, file: str, content: str, complaint: str
) -> None:
    folder = write(tmp_path / "a")
    (folder / file).write_text(content)
    with pytest.raises(GensegError) as caught:
        resolve_policy(str(folder))
    assert caught.value.message.startswith(f"{folder / file}: {complaint}")
    assert caught.value.code is ExitCode.NOT_FOUND


def test_a_byte_order_mark_before_a_card_is_no_part_of_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / CARD).write_bytes(b"\xef\xbb\xbf" + b'{"dialect": "seg-zero", "later": NaN}')
    assert resolve_policy(str(folder)).entry.dialect == "seg-zero"


def test_the_processors_own_budget_is_kept_below_the_familys(tmp_path: Path) -> None:
    small = {
        "image_processor": {"size": {"shortest_edge": 100, "longest_edge": 16384}, "patch_size": 8, "merge_size": 2}
    }
    entry = resolve_policy(str(write(tmp_path / "a", processor_config=small))).entry
    assert (entry.factor, entry.min_pixels, entry.max_pixels) == (16, 100, 16384)
    # As published: a copy of a hub model behaves like its alias.
    published = {"size": {"shortest_edge": 65536, "longest_edge": 16777216}, "patch_size": 16, "merge_size": 2}
    entry = resolve_policy(str(write(tmp_path / "b", preprocessor_config=published))).entry
    like = POLICIES["qwen3-vl-4b"]
    assert (entry.factor, entry.min_pixels, entry.max_pixels) == (like.factor, like.min_pixels, like.max_pixels)
    older = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}
    entry = resolve_policy(str(write(tmp_path / "c", "qwen2_5_vl", preprocessor_config=older))).entry
    like = POLICIES["qwen2.5-vl-7b"]
    assert (entry.factor, entry.min_pixels, entry.max_pixels) == (like.factor, like.min_pixels, like.max_pixels)


def test_a_budget_below_the_models_own_is_refused(tmp_path: Path) -> None:
    model = resolve_policy(str(write(tmp_path / "a")))
    assert model.within(None) is model
    assert model.within(70_000).entry.max_pixels == 70_000
    with pytest.raises(GensegError, match="max_pixels 10 is less than the 65536"):
        model.within(10)


# ---------------------------------------------------------------- what is not a model, and what is another one


def test_wrong_checkpoint_types_are_named(tmp_path: Path) -> None:
    bert, sam = write(tmp_path / "bert", "bert"), write(tmp_path / "sam", "sam2_video")
    policy = write(tmp_path / "policy")
    with pytest.raises(GensegError, match=r"model_type 'bert', expected .*qwen2_5_vl, qwen3_vl") as caught:
        resolve_policy(str(bert))
    assert caught.value.code is ExitCode.NOT_FOUND
    with pytest.raises(GensegError, match="model_type 'sam2_video', expected a vision-language model") as caught:
        resolve_policy(str(sam))
    assert caught.value.hint == "this is a segmenter: give it as --segmenter"
    with pytest.raises(GensegError, match="model_type 'qwen3_vl', expected a segmenter") as caught:
        resolve_segmenter(str(policy))
    assert caught.value.hint == "this is a policy: give it as --model"
    assert resolve_segmenter(str(sam)).backend == "sam2"


@pytest.mark.parametrize("resolve", [resolve_policy, resolve_segmenter])
def test_folders_that_hold_no_model(resolve, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"")
    with pytest.raises(GensegError, match="a file, expected a model folder"):
        resolve(str(file))
    with pytest.raises(GensegError, match="no such folder"):
        resolve(str(tmp_path / "nothing"))
    with pytest.raises(GensegError, match=r"no config\.json in"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(GensegError, match=r"config\.json: not JSON"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(GensegError, match="a JSON object expected, a list found"):
        resolve(str(tmp_path))


def test_unknown_names_give_the_nearest(cache: Path) -> None:
    with pytest.raises(GensegError, match="unknown model 'qwen3-vl-4'") as caught:
        resolve_policy("qwen3-vl-4")
    assert caught.value.hint.startswith("did you mean qwen3-vl-4b?")
    assert caught.value.hint.endswith(
        "a name that only a server knows goes beside --model: --set model.served_model=qwen3-vl-4"
    )
    with pytest.raises(GensegError, match="unknown segmenter 'sam2-lage'") as caught:
        resolve_segmenter("sam2-lage")
    assert caught.value.hint.startswith("did you mean sam2-large?")


def test_boxfill_has_no_files(cache: Path) -> None:
    found = resolve_segmenter("boxfill")
    assert (found.backend, found.path, found.cached) == ("boxfill", None, True)
    assert found.fetch() is found


# ---------------------------------------------------------------- the hub's cache


def test_a_cached_model_needs_no_hub(cache: Path) -> None:
    folder = put_in_cache(cache, "Qwen/Qwen3-VL-4B-Instruct")
    for name in ("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", f"Qwen/Qwen3-VL-4B-Instruct@{COMMIT}"):
        found = resolve_policy(name).fetch()
        assert found.cached
        assert (found.id, found.path, found.revision) == ("Qwen/Qwen3-VL-4B-Instruct", folder, COMMIT)
        assert found.entry is POLICIES["qwen3-vl-4b"]


def test_a_cached_model_outside_the_table(cache: Path) -> None:
    put_in_cache(cache, "someone/finetuned", "qwen2_5_vl", genseg={"dialect": "visurf", "prompt_digest": "ab"})
    found = resolve_policy("someone/finetuned").fetch()
    assert (found.entry.dialect, found.prompt_digest, found.revision) == ("visurf", "ab", COMMIT)
    put_in_cache(cache, "someone/sam", "sam2")
    assert resolve_segmenter("someone/sam").fetch().revision == COMMIT


def test_half_a_download_is_not_a_model(cache: Path) -> None:
    folder = put_in_cache(cache, "Qwen/Qwen3-VL-4B-Instruct")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not resolve_policy("qwen3-vl-4b").cached
    (folder / "model-2.safetensors").write_bytes(b"")
    assert resolve_policy("qwen3-vl-4b").cached


def test_another_type_in_the_cache_is_named(cache: Path) -> None:
    put_in_cache(cache, "Qwen/Qwen3-VL-4B-Instruct", "bert")
    with pytest.raises(GensegError, match="model_type 'bert'"):
        resolve_policy("qwen3-vl-4b")


@pytest.mark.parametrize("revision", ["main", COMMIT, "v1"])
def test_the_cache_is_read_as_huggingface_hub_reads_it(cache: Path, revision: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    put_in_cache(cache, "someone/model")
    theirs = hub.try_to_load_from_cache("someone/model", "config.json", cache_dir=cache, revision=revision)
    ours = checkpoints.cached_snapshot("someone/model", revision)
    assert (ours and ours / "config.json") == (theirs and Path(theirs))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HUB_CACHE": "/somewhere/cache"},
        {"HF_HOME": "/somewhere/home"},
        {"XDG_CACHE_HOME": "/somewhere/xdg"},
        {"HF_HOME": "/somewhere/home", "HF_HUB_CACHE": "$HF_HOME/own"},
    ],
)
def test_cache_folder_and_offline_switch_as_huggingface_hub_has_them(variables: dict[str, str]) -> None:
    pytest.importorskip("huggingface_hub")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "TRANSFORMERS_"))}
    code = (
        "from gensegcli import checkpoints as c; from huggingface_hub import constants as h;"
        "assert str(c.hub_cache()) == h.HF_HUB_CACHE, (c.hub_cache(), h.HF_HUB_CACHE);"
        "assert c.offline() == h.HF_HUB_OFFLINE"
    )
    for offline in ({}, {"HF_HUB_OFFLINE": "yes"}, {"HF_HUB_OFFLINE": "0"}, {"TRANSFORMERS_OFFLINE": "1"}):
        environment = {**keep, **variables, **offline, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)


# ---------------------------------------------------------------- not to be had


@pytest.mark.parametrize("name", ["qwen3-vl-4b", "Qwen/Qwen3-VL-8B-Instruct", "someone/else"])
def test_offline_and_not_cached_names_the_demo(cache: Path, name: str) -> None:
    with pytest.raises(GensegError, match=r"not in the hub cache .* HF_HUB_OFFLINE forbids") as caught:
        resolve_policy(name).fetch()
    assert caught.value.code is ExitCode.NOT_FOUND
    assert "--model demo" in caught.value.hint


def test_what_may_have_been_a_folder_is_told_as_both(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GensegError, match=r"^runs/frist: no such folder .*, and as a hub id: .*not in the hub cache"):
        resolve_policy("runs/frist")
    with pytest.raises(GensegError, match=r"^elsewhere/frist: not in the hub cache"):
        resolve_policy("elsewhere/frist")
    with pytest.raises(GensegError, match=r"^runs/frist: no such folder .*, and as a hub id: .*not in the hub cache"):
        resolve_segmenter("runs/frist").fetch()


def test_unreachable_and_not_cached_names_the_demo(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client against an address of this machine where nobody listens."""
    pytest.importorskip("huggingface_hub")
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["HF_HUB_OFFLINE"] = environment["TRANSFORMERS_OFFLINE"] = "0"
    code = (
        "from gensegcli.models import resolve_policy\n"
        "from gensegcli.errors import GensegError\n"
        "try:\n    resolve_policy('qwen3-vl-4b').fetch()\n"
        "except GensegError as error:\n    print(int(error.code), error.message, error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, timeout=300, capture_output=True, text=True
    )
    assert done.stdout.startswith("4 Qwen/Qwen3-VL-4B-Instruct: not in the hub cache")
    assert "could not be reached" in done.stdout
    assert "--model demo" in done.stdout


class _Hub(BaseHTTPRequestHandler):
    """As much of a hub as a snapshot of one file needs: `whole/model` is sent, `broken/model` is cut in the middle,
    `refused/model` is not given out."""

    content = json.dumps({"model_type": "qwen3_vl", "padding": "x" * 200_000}).encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature of the library)
        pass

    def do_GET(self) -> None:
        api = self.path.startswith("/api/")
        if "/tree/" in self.path:
            body = json.dumps([{"type": "file", "path": "config.json", "size": len(self.content), "oid": COMMIT}])
            self._send(200, body.encode())
        elif api:
            name = "/".join(self.path.split("/")[3:5])
            self._send(200, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": []}).encode())
        elif self.path.startswith("/refused/"):
            self._send(403, b"no")
        elif self.path.startswith("/broken/"):
            self._send(200, self.content[:1000])
            # With no time to linger, closing resets the connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self._send(200, self.content)

    do_HEAD = do_GET  # noqa: N815 (the name that the library calls)

    def _send(self, status: int, body: bytes) -> None:
        file = status == 200 and not self.path.startswith("/api/")
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.content if file else body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{COMMIT}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.wfile.flush()


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("repo", "room", "message"),
    [
        ("whole/model", None, "had whole/model"),
        ("whole/model", 100_000, "3 whole/model: cannot be written to the hub cache ({cache}): File too large"),
        ("broken/model", None, "4 broken/model: the download broke off (ReadError)"),
        ("refused/model", None, "4 refused/model: not in the hub cache ({cache}), and the hub answered HTTP 403"),
    ],
)
def test_a_download_that_fails_says_whose_fault_it_was(
    cache: Path, hub: str, repo: str, room: int | None, message: str
) -> None:
    """The real client against a server that answers; a bound on the size of files stands for a full disk."""
    pytest.importorskip("huggingface_hub")
    if room is not None:
        pytest.importorskip("resource", reason="bounds on the size of files are Unix's")
    environment = {**os.environ, "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["HF_HUB_OFFLINE"] = environment["TRANSFORMERS_OFFLINE"] = "0"
    code = (
        "import sys\n"
        "from gensegcli.checkpoints import download\n"
        "from gensegcli.errors import GensegError\n"
        "repo, room = sys.argv[1], int(sys.argv[2])\n"
        "if room:\n    import resource\n    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))\n"
        "try:\n    print('had', repo, (download(repo) / 'config.json').stat().st_size)\n"
        "except GensegError as error:\n    print(int(error.code), error.message)\n"
    )
    # No bytecode: what is written under the bound should be the download.
    command = [sys.executable, "-B", "-c", code, repo, str(room or 0)]
    done = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size = f" {len(_Hub.content)}" if message.startswith("had") else ""
    assert done.stdout.strip() == message.format(cache=cache) + size


def test_without_huggingface_hub_the_extra_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(GensegError, match="needs huggingface_hub") as caught:
        resolve_policy("qwen3-vl-4b").fetch()
    assert caught.value.code is ExitCode.ENVIRONMENT


# ---------------------------------------------------------------- digests


def test_a_digest_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    one = write(tmp_path / "a")
    two = tmp_path / "b"
    shutil.copytree(one, two)
    assert checkpoints.content_digest(one) == checkpoints.content_digest(two)
    (two / "model.safetensors").write_bytes(b"Weights")
    assert checkpoints.content_digest(one) != checkpoints.content_digest(two)


def test_a_large_file_is_sampled_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_WHOLE_FILE", 1 << 16)
    folder = write(tmp_path / "a")
    weights = bytearray((64).to_bytes(8, "little") + bytes(5 << 20))
    digests = set()
    # A header byte, the middle, the very end: as when training moves every weight a little.
    for position in (None, 40, len(weights) // 2, len(weights) - 1):
        changed = bytearray(weights)
        if position is not None:
            changed[position : position + (1 << 17)] = b"\1" * len(changed[position : position + (1 << 17)])
        (folder / "model.safetensors").write_bytes(changed)
        digests.add(checkpoints.content_digest(folder))
    assert len(digests) == 4


def test_a_training_run_means_its_finished_model_else_its_newest_checkpoint(tmp_path: Path) -> None:
    card = {"genseg": {"dialect": "genseg-neg"}}
    write(tmp_path / "checkpoint-90", **card)
    write(tmp_path / "checkpoint-100")  # was being written: its card comes last
    write(tmp_path / "checkpoint-of-mine", **card)
    found = resolve_policy(str(tmp_path))
    assert (found.path, found.entry.dialect) == (tmp_path / "checkpoint-90", "genseg-neg")
    write(tmp_path / "model", **card)
    assert resolve_policy(str(tmp_path)).path == tmp_path / "model"
