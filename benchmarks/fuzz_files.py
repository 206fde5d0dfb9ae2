"""Damage the files that people and other programs write, run the commands that read them, and count tracebacks.

Every round takes one case (annotations, expressions, predictions, answers, manifests, recipes, settings, run folders,
prepared sets, checkpoints, images), changes one of its files (values, keys and brackets of its structure, or bytes), and
runs a command on it in this process. A command may succeed or refuse with one line; any exception that leaves it is a
fault, told once for each place in the code. Exits with 1 if there is one.

    python benchmarks/fuzz_files.py --count 5000 [--seed 0] [--mini DIR] [--keep DIR] [--only NAME,…]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 785.0, 2**31, 2**63, 2**64, -(2**70), float("nan"), float("inf"),
    "", " ", "785", "785.0", "a\u2028b", "\x1b[2J", "\ud800", "\x00", "../../x", "/etc/passwd", "C:\\x", "é" * 300,
    "e\u0301", [], {}, [None], [[]], [0], [[1, 2, 3]], {"a": 1}, {"size": [1, 1], "counts": "0"}, "x" * 5000,
)  # fmt: skip
ODD_BYTES = (b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\xe2\x80\xa8", b"NaN", b"9" * 5000, b"[" * 1500, b'["]",' * 800)


@dataclass(frozen=True)
class Case:
    """Files that may be damaged, and the commands that read them; all relative to the working folder."""

    name: str
    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


# ---------------------------------------------------------------- damage


def damaged(content: bytes, suffix: str, draw: random.Random) -> bytes:
    """The content of a file with one to three changes, of its structure where it has one."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            content = _bytes(content, draw)
            continue
        if suffix == ".json" and draw.random() < 0.8:
            content = _json(text, draw)
        elif suffix == ".jsonl" and draw.random() < 0.8:
            lines = content.split(b"\n")
            place = draw.randrange(max(1, len(lines) - 1))
            lines[place] = _json(lines[place].decode("utf-8"), draw)
            content = b"\n".join(lines)
        elif suffix in {".toml", ".csv", ".ids", ".txt"} and draw.random() < 0.8:
            content = _words(text, draw).encode("utf-8", "surrogatepass")
        else:
            content = _bytes(content, draw)
    return content


def _json(text: str, draw: random.Random) -> bytes:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _bytes(text.encode("utf-8", "surrogatepass"), draw)
    places = list(_places(value))
    if not places:
        return json.dumps(draw.choice(ODD_VALUES)).encode()
    parent, key = draw.choice(places)
    way = draw.randrange(7)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        parent[draw.choice((f"{key}s", f"{key}_", str(key).upper(), str(key)[:-1]))] = parent.pop(key)
    elif way == 2 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif way == 3:
        parent[key] = str(parent[key])
    elif way == 4:
        parent[key] = [parent[key]]
    else:
        parent[key] = draw.choice(ODD_VALUES)
    written = json.dumps(value)
    if isinstance(parent, dict) and draw.random() < 0.05:
        first = json.dumps(key)
        written = written.replace(f"{first}:", f"{first}: null, {first}:", 1)
    return written.encode()


def _places(value: Any, limit: int = 4000) -> list[tuple[Any, Any]]:
    found, waiting = [], [value]
    while waiting and len(found) < limit:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))[:60] if isinstance(node, list) else []
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def _words(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    place = draw.randrange(len(lines))
    way = draw.randrange(5)
    if way == 0:
        del lines[place]
    elif way == 1:
        lines.insert(place, lines[place])
    elif way == 2:
        before, equals, _ = lines[place].partition("=")
        value = draw.choice(
            ("2026-01-01", "[[", "{a = 1}", "9" * 5000, "[" * 1200, "-1", "true", '"x"', "nan", "1e999")
        )
        lines[place] = f"{before}{equals}{value}"
    elif way == 3:
        cells = lines[place].split(",")
        cells[draw.randrange(len(cells))] = str(draw.choice(ODD_VALUES))
        lines[place] = ",".join(cells)
    else:
        lines[place] = lines[place][: draw.randrange(len(lines[place]) + 1)]
    return "\n".join(lines)


def _bytes(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return draw.choice(ODD_BYTES)
    place = draw.randrange(len(content))
    way = draw.randrange(4)
    if way == 0:
        return content[:place]
    if way == 1:
        return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
    if way == 2:
        return content[:place] + draw.choice(ODD_BYTES) + content[place:]
    return content[:place] + content[min(len(content), place + draw.randrange(1, 64)) :]


# ---------------------------------------------------------------- cases

SCRIPTED = ("--backend", "scripted", "--answers", "answers.jsonl", "--segmenter", "boxfill")
FAST = ("-q", "--set", "eval.resamples=10")


def cases(mini: bool) -> list[Case]:
    """Every kind of file with the commands that read it. The order of commands is the order of a user's work."""
    own = ("prep", "coco", "--annotations", "own/a.json", "--images", "own/img", "--expressions", "own/e.jsonl")
    found = [
        Case("annotations", ("own/a.json", "own/e.jsonl"), ((*own, "--for", "eval", "-o", "made", "-q"),)),
        Case("predictions", ("given.jsonl",), (("eval", "set", "--predictions", "given.jsonl", "-o", "made", *FAST),)),
        Case("coco results", ("given.json",), (("eval", "set", "--predictions", "given.json", "-o", "made", *FAST),)),
        Case("masks", ("masks/*.png",), (("eval", "set", "--predictions", "masks", "-o", "made", *FAST),)),
        Case("answers", ("answers.jsonl",), (("eval", "set", *SCRIPTED, "-o", "made", *FAST),)),
        Case(
            "ids",
            ("ids.txt",),
            (("eval", "set", "--predictions", "given.jsonl", "--subset", "ids.txt", "-o", "made", *FAST),),
        ),
        Case(
            "evaluation",
            ("done/*.json", "done/*.jsonl", "done/masks/*/*.jsonl", "done/masks/*/*.json", "done/scores/*/*.jsonl"),
            (
                ("report", "done"),
                ("report", "done", "-o", "made.html"),
                ("eval", "set", *SCRIPTED, "-o", "done", *FAST),
            ),
        ),
        Case(
            "training",
            ("trained/*.json", "trained/*.jsonl"),
            (("report", "trained"), ("report", "trained", "-o", "made.html")),
        ),
        Case("manifest", ("pairs.jsonl",), (("predict", "pairs.jsonl", *SCRIPTED, "-o", "made", "-q"),)),
        Case("csv", ("pairs.csv",), (("predict", "pairs.csv", *SCRIPTED, "-o", "made", "-q"),)),
        Case("parquet", ("pairs.parquet",), (("predict", "pairs.parquet", *SCRIPTED, "-o", "made", "-q"),)),
        Case("image", ("own/img/*",), (("predict", "own/img", "--query", "dog", *SCRIPTED, "-o", "made", "-q"),)),
        Case(
            "predicted",
            ("predicted/*.json", "predicted/*.jsonl"),
            (("predict", "pairs.jsonl", *SCRIPTED, "-o", "predicted", "-q", "--save", "coco"),),
        ),
        Case("recipe", ("mine.toml",), (("prep", "mine.toml", "-o", "made", "-q"), ("prep", "show", "mine.toml"))),
        Case(
            "settings",
            ("mine-settings.toml",),
            (("predict", "own/img", "--query", "dog", *SCRIPTED, "--config", "mine-settings.toml", "--dry-run"),),
        ),
        Case(
            "prepared",
            ("set/*.json", "set/**/*.parquet", "set/.*.json"),
            (
                ("prep", "check", "set"),
                ("prep", "show", "set"),
                ("eval", "set", "--predictions", "given.jsonl", "-o", "made", *FAST),
                ("overlap-audit", "set", "audit.csv"),
                ("prep", "scenes", "--n", "6", "--for", "eval", "-o", "set", "-q"),
            ),
        ),
        Case("audit", ("audit.csv",), (("overlap-audit", "audit.csv", "set"), ("overlap-audit", "set", "audit.csv"))),
        Case(
            "checkpoint",
            ("checkpoint/*.json", "checkpoint/*.jinja"),
            (
                (
                    "predict",
                    "own/img/0.png",
                    "dog",
                    "--model",
                    "checkpoint",
                    "--segmenter",
                    "boxfill",
                    "--set",
                    "predict.max_tokens=4",
                    "-q",
                ),
            ),
        ),
    ]
    if mini:
        raw = ("--root", "raw", "-o", "made", "-q", "--for", "eval", "--split", "val")
        found += [
            Case("refcocog", ("raw/refcocog/*",), (("prep", "refcocog", "--by", "umd", *raw),)),
            Case("grefcoco", ("raw/grefcoco/*",), (("prep", "grefcoco", *raw),)),
            Case("reasonseg", ("raw/reason_seg/ReasonSeg/val/*",), (("prep", "reasonseg", *raw),)),
        ]
    return found


def make(folder: Path, mini: Path | None) -> None:
    """Sound files for every case, in `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from pycocotools import mask as coco

    from gensegcli.geometry import rle
    from gensegcli.sources.prepared import read_prepared

    os.chdir(folder)
    for name, size in (("0.png", (64, 48)), ("1.jpg", (60, 44)), ("2.webp", (50, 40)), ("3.gif", (30, 30))):
        Path("own/img").mkdir(parents=True, exist_ok=True)
        Image.radial_gradient("L").resize(size).convert("RGB").save(f"own/img/{name}")
    box = [5, 5, 25, 5, 25, 25, 5, 25]
    crowd = coco.encode(_square(48, 64))
    annotations = [
        {"id": 11, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400, "segmentation": [box]},
        {"id": 12, "image_id": 2, "category_id": 1, "iscrowd": 0, "segmentation": [box, [1, 1, 5, 1, 5, 5]]},
        {
            "id": 13,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [48, 64], "counts": crowd["counts"].decode()},
        },
    ]
    images = [
        {"id": 1, "file_name": "0.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "1.jpg", "width": 60, "height": 44},
    ]
    _write("own/a.json", {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]})
    expressions = [
        {"image_id": 1, "expression": "dog", "ann_ids": [11, 13]},
        {"file_name": "1.jpg", "expressions": ["a", "b"], "ann_ids": [12]},
    ]
    _write("own/e.jsonl", *expressions, {"image_id": 2, "expression": "zebra", "ann_ids": []})
    must_run("prep", "scenes", "--n", "6", "--for", "eval", "-o", "set", "-q")
    samples = list(read_prepared(Path("set")))
    answers = [{"id": s.id, "text": _answer(s)} for s in samples]
    _write("answers.jsonl", *answers, *({"query": query, "text": _answer(samples[0])} for query in ("dog", "cat")))
    empty = {s.id: rle.to_coco(rle.merge([], s.size)) for s in samples}
    masks = {s.id: [rle.to_coco(target.mask) for target in s.targets] for s in samples}
    _write("given.jsonl", *({"id": name, "masks": found, "no_target": not found} for name, found in masks.items()))
    _write(
        "given.json",
        [
            {"image_id": name, "segmentation": (found or [empty[name]])[0], "score": 0.5, "bbox": [1, 2, 3, 4]}
            for name, found in masks.items()
        ],
    )
    Path("masks").mkdir()
    for sample in samples:
        Image.fromarray(rle.decode(rle.merge([t.mask for t in sample.targets], sample.size))).save(
            f"masks/{sample.id}.png"
        )
    Path("ids.txt").write_text("".join(f"{s.id}\n" for s in samples[:4]))
    pairs = [
        {"image": f"own/img/{name}", "query": query, "id": f"{name}-{query}"}
        for name in ("0.png", "1.jpg")
        for query in ("dog", "cat")
    ]
    _write("pairs.jsonl", *pairs)
    Path("pairs.csv").write_text("image,query,id\n" + "".join(f"{p['image']},{p['query']},{p['id']}\n" for p in pairs))
    pq.write_table(pa.Table.from_pylist(pairs), "pairs.parquet")
    Path("audit.csv").write_text("image,query,id\n785,red cup,q1\nown/img/0.png,dog,q2\n")
    from gensegcli.prep.recipe import recipe_folder

    recipe = (recipe_folder() / "scenes.toml").read_text()
    when = '[[variant]]\nwhen = { split = "val" }\npurpose = "eval"\n'
    Path("mine.toml").write_text(recipe.replace("n = 5000", "n = 4") + when)
    Path("mine-settings.toml").write_text(
        '[predict]\nmax_tokens = 64\n[model]\nname = "demo"\n[eval]\nresamples = 10\n'
    )
    must_run("eval", "set", *SCRIPTED, "-o", "done", *FAST)
    must_run("predict", "pairs.jsonl", *SCRIPTED, "-o", "predicted", "-q", "--save", "coco")
    Path("trained").mkdir()
    _write("trained/run.json", {"identity": {}, "settings": {"train.method": "grpo"}, "started": "2026-01-01"})
    _write("trained/metrics.jsonl", *({"step": n, "reward": 1.0 * n, "loss": 0.1, "seconds": 1.0} for n in range(1, 5)))
    _write(
        "trained/rollouts.jsonl",
        {"step": 1, "id": "a", "query": "x", "text": "x", "terms": {"accuracy": 1.0}, "reward": 1.0},
    )
    _write("trained/checkpoints.jsonl", {"step": 4})
    from gensegcli import miniature

    shutil.copytree(Path(miniature.__file__).parent / "policy", "checkpoint")
    if mini is not None:
        shutil.copytree(mini, "raw")


def _square(height: int, width: int) -> Any:
    import numpy as np

    mask = np.zeros((height, width), np.uint8, order="F")
    mask[10:20, 10:30] = 1
    return mask


def _answer(sample: Any) -> str:
    objects = [
        {"bbox_2d": list(t.box), "point_1": list(t.points[0]), "point_2": list(t.points[-1])} for t in sample.targets
    ]
    return f"<think>.</think><answer>{json.dumps(objects or {'no_target': True})}</answer>"


def _write(path: str, *values: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(
        "".join(json.dumps(value) + "\n" for value in values) if path.endswith("l") else json.dumps(values[0])
    )


# ---------------------------------------------------------------- rounds


def run(*arguments: str) -> BaseException | None:
    """Run `genseg` in this process; the exception that left it, None if it ended as a command may end."""
    exception = _invoke(*arguments).exception
    return None if isinstance(exception, SystemExit) else exception


def must_run(*arguments: str) -> None:
    """Run `genseg` on sound files: it has to succeed, or the damage that follows would test nothing."""
    result = _invoke(*arguments)
    if result.exit_code not in (0, 5):
        raise SystemExit(f"genseg {' '.join(arguments)} on sound files: {result.exit_code}\n{result.stderr}")


def _invoke(*arguments: str) -> Any:
    from typer.testing import CliRunner

    from gensegcli.cli.app import app

    return CliRunner().invoke(app, list(arguments), prog_name="genseg")


def site(error: BaseException) -> str:
    """The innermost line of ours under an exception, and its type."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "gensegcli" in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}" if ours else "outside"
    return f"{type(error).__name__} at {where}"


def attack(case: Case, sound: Path, draw: random.Random, keep: Path | None) -> list[str]:
    """Damage one file of a case and run its commands; the places of the exceptions that left them."""
    with tempfile.TemporaryDirectory() as name:
        place = _copy(sound, Path(name))
        files = sorted({path for pattern in case.files for path in place.glob(pattern) if path.is_file()})
        path = draw.choice(files)
        path.write_bytes(damaged(path.read_bytes(), path.suffix, draw))
        found = []
        for command in case.commands:
            error = run(*command)
            if error is not None:
                found.append(f"{case.name}: genseg {command[0]}: {site(error)}")
                if keep is not None:
                    kept = keep / f"{case.name}-{abs(hash(found[-1])) % 10**8}"
                    if not kept.exists():
                        shutil.copytree(place, kept)
                        (kept / "command.txt").write_text(
                            f"{' '.join(command)}\n{path.relative_to(place)}\n{''.join(traceback.format_exception(error))}"
                        )
        os.chdir(sound)
        return found


def rehearse(case: Case, sound: Path) -> None:
    """Run the commands of a case on sound files."""
    with tempfile.TemporaryDirectory() as name:
        _copy(sound, Path(name))
        for command in case.commands:
            must_run(*command)
        os.chdir(sound)


def _copy(sound: Path, folder: Path) -> Path:
    place = folder / "place"
    shutil.copytree(sound, place, symlinks=True)
    os.chdir(place)
    return place


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mini", type=Path, help="folder with refcocog, grefcoco and reason_seg in their raw forms")
    parser.add_argument("--keep", type=Path, help="keep the files of the first exception of each place there")
    parser.add_argument("--only", default="", help="names of cases")
    options = parser.parse_args(arguments)
    keep = options.keep and options.keep.resolve()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    mini = options.mini and options.mini.resolve()
    wanted = set(filter(None, options.only.split(",")))
    chosen = [case for case in cases(mini is not None) if not wanted or case.name in wanted]
    done: Counter[str] = Counter()
    sites: Counter[str] = Counter()
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name)
        make(sound, mini)
        for case in chosen:
            rehearse(case, sound)
        for number in range(options.count):
            draw = random.Random(f"{options.seed} {number}")
            case = chosen[number % len(chosen)]
            done[case.name] += 1
            for found in attack(case, sound, draw, keep):
                sites[found] += 1
                print(f"{number}: {found}", file=sys.stderr, flush=True)
        os.chdir(home)
    print(f"{options.count} damaged files, seed {options.seed}: {', '.join(f'{n} {name}' for name, n in done.items())}")
    print(f"exceptions: {sites.total()} at {len(sites)} places")
    for found, count in sites.most_common():
        print(f"  {count:5} × {found}")
    return 1 if sites else 0


if __name__ == "__main__":
    sys.exit(main())
