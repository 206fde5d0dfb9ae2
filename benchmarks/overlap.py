"""How well `genseg overlap-audit` recognises pictures by their perceptual hash, and how fast.

Four tables:

- recall: photos and pieces of photos, changed as data sets change them; the share found within each radius;
- false alarms: pairs of different photos, of pieces of different photos, and of generated scenes within each radius;
- matching: 100,000 hashes against 100,000, beside comparing everything with everything;
- reading: decoding and hashing files, pictures a second.

Pieces are what the photos give when cut 2×2, 3×3 and 4×4: smaller, blurrier and plainer than photos, so harder.

    python benchmarks/overlap.py [--photos DIR] [--number 100000] [--scenes 2000] [--json] [--check]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from gensegcli.audit.hashes import RADIUS, perceptual_hash
from gensegcli.audit.nearest import find_nearest
from gensegcli.audit.pictures import look_at
from gensegcli.audit.sets import Picture
from gensegcli.sources.raw import PictureFile
from gensegcli.sources.scenes import scene_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[Image.Image], Image.Image]
    Hash = Callable[[Image.Image], int | None]

RADII = (0, 2, 4, 6, 8, 10, 12)
SECONDS, MEGABYTES = 60.0, 2048.0


def dhash(image: Image.Image) -> int:
    """The other usual hash: which of two neighbours is brighter, at 9×8."""
    small = cv2.resize(np.asarray(image.convert("L")), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


HASHES: dict[str, Hash] = {"pHash": perceptual_hash, "dHash": dhash}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def fitted(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side))
    return small


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    x, y = round(width * share / 2), round(height * share / 2)
    return image.crop((x, y, width - x, height - y))


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, round(value * 1.2)))


CHANGES: dict[str, Change] = {
    "840×840": lambda image: image.resize((840, 840), Image.Resampling.BILINEAR),
    "840×840, nearest": lambda image: image.resize((840, 840), Image.Resampling.NEAREST),
    "longer side 336": lambda image: fitted(image, 336),
    "336×336": lambda image: image.resize((336, 336), Image.Resampling.BICUBIC),
    **{f"JPEG {quality}": lambda image, quality=quality: jpeg(image, quality) for quality in (95, 75, 50, 30)},
    "840×840, JPEG 30": lambda image: jpeg(image.resize((840, 840)), 30),
    "336×336, JPEG 30": lambda image: jpeg(image.resize((336, 336)), 30),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "20 % brighter": brighter,
    **{f"cropped by {share} %": lambda image, share=share: cropped(image, share / 100) for share in (1, 2, 4, 8)},
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def pieces(photo: Image.Image) -> list[Image.Image]:
    found = []
    for parts in (2, 3, 4):
        width, height = photo.width // parts, photo.height // parts
        found += [
            photo.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
            for y in range(parts)
            for x in range(parts)
        ]
    return found


def bits(one: int | None, other: int | None) -> int:
    """Bits that differ; 65 where one has no hash."""
    return 65 if one is None or other is None else (one ^ other).bit_count()


def within(distances: list[int]) -> list[float]:
    return [float(np.mean(np.array(distances) <= radius)) for radius in RADII]


def recall(images: list[Image.Image], hash_of: Hash) -> dict[str, list[float]]:
    """Change → share found within each radius, of those that are not too plain."""
    known = [(image, value) for image in images if (value := hash_of(image)) is not None]
    return {name: within([bits(value, hash_of(change(i))) for i, value in known]) for name, change in CHANGES.items()}


def false_alarms(groups: list[list[Image.Image]], hash_of: Hash) -> tuple[list[int], int]:
    """Pairs of pictures of different groups within each radius, and how many pairs there are."""
    values = [[value for image in group if (value := hash_of(image)) is not None] for group in groups]
    counts, pairs = np.zeros(len(RADII), int), 0
    for one, other in combinations(values, 2):
        distance = np.bitwise_count(np.array(one, np.uint64)[:, None] ^ np.array(other, np.uint64))
        counts += [int((distance <= radius).sum()) for radius in RADII]
        pairs += distance.size
    return counts.tolist(), pairs


def hashes(number: int, seed: int, like: np.ndarray) -> np.ndarray:
    """Hashes as unevenly distributed as those of pictures: each quarter that of a random real one, some bits flipped."""
    rng = np.random.default_rng(seed)
    made = np.zeros(number, np.uint64)
    for quarter in range(4):
        mask = np.uint64(0xFFFF << 16 * quarter)
        made |= like[rng.integers(0, len(like), number)] & mask
    for _ in range(8):
        made ^= np.uint64(1) << rng.integers(0, 64, number).astype(np.uint64)
    return made


def everything(queries: np.ndarray, known: np.ndarray, radius: int) -> int:
    """How many queries have a near one, the plain way: one row of all distances at a time."""
    found = 0
    for query in queries:
        found += int((np.bitwise_count(known ^ query) <= radius).any())
    return found


def matching(number: int, like: np.ndarray, rows: int = 2000) -> dict[str, float]:
    """Seconds of both ways, the plain one on some rows and projected. A tenth of the queries is planted."""
    known, queries = hashes(number, 0, like), hashes(number, 1, like)
    queries[: number // 10] = known[: number // 10] ^ np.uint64(0b101 << 20)
    begin = time.perf_counter()
    nearest = find_nearest(queries, known, RADIUS)
    ours = time.perf_counter() - begin
    begin = time.perf_counter()
    plain = everything(queries[:rows], known, RADIUS)
    theirs = (time.perf_counter() - begin) * number / rows
    assert plain == int((nearest.place[:rows] >= 0).sum()), "both ways find the same"
    return {"number": number, "seconds": ours, "plain_seconds": theirs, "times": theirs / ours}


def reading(photos: list[Path], rounds: int = 40) -> dict[str, float]:
    pictures = [Picture(path.name, None, PictureFile(path)) for path in photos] * rounds
    found = {"pictures": len(pictures), "workers": len(os.sched_getaffinity(0))}
    for name, wanted in (("per_s", True), ("digest_per_s", False)):
        begin = time.perf_counter()
        assert not any(look.problem for look in look_at(pictures, hashes=wanted))
        found[name] = len(pictures) / (time.perf_counter() - begin)
    return found


def measure(photos: list[Path], number: int, scenes: int) -> dict[str, Any]:
    images = [Image.open(path).convert("RGB") for path in photos]
    parts = [pieces(image) for image in images]
    drawn = [[Image.fromarray(scene_of(index, seed=0)[0].image)] for index in range(scenes)]
    flat = [piece for group in parts for piece in group]
    like = np.array([v for p in (*images, *flat) if (v := perceptual_hash(p)) is not None], np.uint64)
    found: dict[str, Any] = {
        "photos": len(images),
        "pieces": len(flat),
        "plain_pieces": sum(perceptual_hash(piece) is None for piece in flat),
        "recall": {
            name: {"photos": recall(images, hash_of), "pieces": recall(flat, hash_of)}
            for name, hash_of in HASHES.items()
        },
        "false_alarms": {
            name: {
                "photos": false_alarms([[image] for image in images], hash_of),
                "pieces": false_alarms(parts, hash_of),
                "scenes": false_alarms(drawn, hash_of),
            }
            for name, hash_of in HASHES.items()
        },
    }
    found["reading"] = reading(photos)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["matching"] = matching(number, like)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["peak_mb_before_matching"] = before
    return found


def tables(found: dict[str, Any]) -> str:
    """Markdown."""
    radii = " | ".join(f"≤ {radius}" for radius in RADII)
    rule = "|---|" + "---:|" * len(RADII)
    lines = [f"{found['photos']} photos, {found['pieces']} pieces of them ({found['plain_pieces']} too plain to hash)"]
    for name, groups in found["recall"].items():
        lines += ["", f"| {name}, % found of photos / pieces | {radii} |", rule]
        for change, shares in groups["photos"].items():
            both = zip(shares, groups["pieces"][change], strict=True)
            lines.append(f"| {change} | " + " | ".join(f"{100 * a:.0f} / {100 * b:.1f}" for a, b in both) + " |")
    lines += ["", f"| false alarms | pairs | {radii} |", "|---|---:|" + "---:|" * len(RADII)]
    for name, groups in found["false_alarms"].items():
        for kind, (counts, pairs) in groups.items():
            lines.append(f"| {name}, {kind} | {pairs:,} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    match, read = found["matching"], found["reading"]
    size = f"{match['number']:,} × {match['number']:,}"
    memory = f"peak memory {found['peak_mb']:.0f} MB, {found['peak_mb_before_matching']:.0f} MB before"
    ways = (
        f"{match['seconds']:.1f} s; one with all, row by row: {match['plain_seconds']:.0f} s ({match['times']:.1f} ×)"
    )
    rates = f"{read['per_s']:.0f} pictures/s decoded and hashed, {read['digest_per_s']:.0f}/s digested alone"
    lines += ["", f"{size} hashes within {RADIUS} bits: {ways}; {memory}"]
    lines += [f"reading with {read['workers']} threads: {rates}"]
    return "\n".join(lines)


def main() -> int:
    """Measure, print; with --check leave with 1 where a bar is missed."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--photos", type=Path, default=Path(os.environ.get("GENSEG_TEST_DATA") or default))
    parser.add_argument("--number", type=int, default=100_000, help="hashes on either side")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="leave with 1 where a bar is missed")
    asked = parser.parse_args()
    # One photo under several names or as a grey copy would be a false alarm that is none.
    photos = sorted(path for path in asked.photos.rglob("*.jpg") if not {"reason_seg"} & set(path.parts))
    photos = [path for path in photos if path.name != "gray.jpg"]
    if not photos:
        print(f"no photos below {asked.photos}: name a folder with --photos", file=sys.stderr)
        return 4
    found = measure(photos, asked.number, asked.scenes)
    print(json.dumps(found) if asked.json else tables(found))
    missed = found["matching"]["seconds"] > SECONDS or found["peak_mb"] > MEGABYTES
    return int(asked.check and missed)


if __name__ == "__main__":
    sys.exit(main())
