"""Every format read back by somebody else's reader, and what a full disk or a kill leaves behind."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from gensegcli.errors import ExitCode, GensegError
from gensegcli.exports import FORMATS, Exporter, discard_outputs
from gensegcli.exports.exporter import COLLECTIONS
from gensegcli.exports.files import FILE_FORMATS
from gensegcli.exports.names import prediction_stem
from gensegcli.predictions import union_mask
from gensegcli.records import Prediction, Refusal, RefusalKind
from tests.made import made_prediction
from tests.rasterise import rasterise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEIGHT, WIDTH = 90, 120


def shapes() -> list[np.ndarray]:
    """A ring (with its hole), two separate parts with a one-pixel bridge missing, and a sliver one pixel wide."""
    ring, parts, sliver = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    cv2.circle(ring, (40, 45), 30, 1, -1)
    cv2.circle(ring, (40, 45), 12, 0, -1)
    cv2.rectangle(parts, (80, 5), (100, 20), 1, -1)
    cv2.ellipse(parts, (95, 60), (20, 10), 30, 0, 360, 1, -1)
    sliver[88, 3:90] = 1
    return [ring.astype(bool), parts.astype(bool), sliver.astype(bool)]


def several() -> list[Prediction]:
    """Two expressions on one picture, the second not there; another picture of the same name; a refusal; no mask."""
    first, second, third = shapes()
    return [
        made_prediction([first, second], id="1", image="x/a.jpg", query="round things"),
        made_prediction([], (WIDTH, HEIGHT), id="2", image="x/a.jpg", query='the "blue": one'),
        made_prediction([third], id="3", image="y/a.jpg", query="round things"),
        made_prediction(
            [], (WIDTH, HEIGHT), id="4", image="z.jpg", query="cat", no_target=False, refusal=Refusal(RefusalKind.EMPTY)
        ),
        made_prediction([np.zeros((HEIGHT, WIDTH), dtype=bool)], id="5", image="z.jpg", query="dog"),
    ]


IMAGE = Image.new("RGB", (WIDTH, HEIGHT), (40, 80, 120))


def export(folder: Path, formats: Sequence[str], predictions: Sequence[Prediction], **options: Any) -> Exporter:
    exporter = Exporter(folder, formats, **options)
    for prediction in predictions:
        exporter.write(prediction, IMAGE)
    exporter.close(predictions)
    return exporter


def test_the_formats_are_those_of_the_two_tables() -> None:
    assert set(FORMATS) == FILE_FORMATS.keys() | COLLECTIONS.keys()


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="unknown export format 'geojsn'") as caught:
        Exporter(tmp_path, ["png", "geojsn"])
    assert "did you mean geojson?" in caught.value.hint


def test_png_holds_the_union_as_0_and_255(tmp_path: Path) -> None:
    predictions = several()
    exporter = export(tmp_path, ["png"], predictions)
    for prediction in predictions:
        with Image.open(exporter.paths(prediction)["png"]) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), union_mask(prediction) * 255)
    assert len(list((tmp_path / "png").iterdir())) == len(predictions)


def test_rle_is_decoded_by_pycocotools(tmp_path: Path) -> None:
    prediction = several()[0]
    record = json.loads(export(tmp_path, ["rle"], [prediction]).paths(prediction)["rle"].read_text())
    np.testing.assert_array_equal(coco_mask.decode(record["union"]).astype(bool), union_mask(prediction))
    for found, mask in zip(record["instances"], shapes()[:2], strict=True):
        np.testing.assert_array_equal(coco_mask.decode(found["segmentation"]).astype(bool), mask)
        assert found["bbox"] == coco_mask.toBbox(found["segmentation"]).tolist()
    assert [found["score"] for found in record["instances"]] == [0.97, 0.87]


def test_coco_is_read_by_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path, ["coco"], several())
    coco = COCO(str(tmp_path / "coco.json"))

    images: list[Any] = coco.loadImgs(coco.getImgIds())
    assert [(one["file_name"], one["width"], one["height"]) for one in images] == [
        (name, WIDTH, HEIGHT) for name in ("x/a.jpg", "y/a.jpg", "z.jpg")
    ]
    assert coco.dataset["info"] == {"description": "predictions of genseg", "images_root": ".", "empty_masks": 1}
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == ["round things", 'the "blue": one', "cat", "dog"]
    assert [[names[number] for number in one["neg_category_ids"]] for one in images] == [['the "blue": one'], [], []]

    annotations: list[Any] = coco.loadAnns(coco.getAnnIds(imgIds=[1, 2]))
    for annotation, mask in zip(annotations, shapes(), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert coco.getAnnIds(imgIds=[3]) == [], "an object without a pixel is no annotation"
    assert [names[number] for number in images[2]["not_exhaustive_category_ids"]] == ["dog"]


def test_coco_of_nothing_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path, ["coco"], [])
    assert COCO(str(tmp_path / "coco.json")).getImgIds() == []


def yolo_rings(line: str) -> tuple[int, np.ndarray]:
    number, *values = line.split()
    return int(number), np.array(values, dtype=np.float64).reshape(-1, 2) * (WIDTH, HEIGHT)


def test_yolo_labels_give_the_masks_back(tmp_path: Path) -> None:
    """Exactly by crossing numbers, holes and parts included; through OpenCV, which paints outlines too, IoU ≥ 0.9."""
    export(tmp_path, ["yolo"], several())
    with (tmp_path / "yolo" / "pictures.csv").open(encoding="utf-8", newline="") as stream:
        labels = {row["image"]: tmp_path / "yolo" / row["label"] for row in csv.DictReader(stream)}
    assert list(labels) == ["x/a.jpg", "y/a.jpg"], "an empty file would say that z.jpg holds neither cat nor dog"
    assert labels["x/a.jpg"] != labels["y/a.jpg"]

    lines = labels["x/a.jpg"].read_text().splitlines() + labels["y/a.jpg"].read_text().splitlines()
    for line, mask in zip(lines, shapes(), strict=True):
        number, ring = yolo_rings(line)
        assert number == 0
        np.testing.assert_array_equal(rasterise([np.rint(ring * 1e4) / 1e4], HEIGHT, WIDTH), mask)
        if mask.sum() > 500:
            painted = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            cv2.fillPoly(painted, [np.rint(ring - 0.5).astype(np.int32)], 1)
            both = (painted.astype(bool) & mask).sum() / (painted.astype(bool) | mask).sum()
            assert both >= 0.9
    yaml = (tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8").splitlines()
    assert yaml[-5:] == ["names:", '  0: "round things"', r'  1: "the \"blue\": one"', '  2: "cat"', '  3: "dog"']


def test_yolo_keeps_the_pictures_a_user_has_put_beside_the_labels(tmp_path: Path) -> None:
    export(tmp_path, ["yolo"], several())
    (tmp_path / "yolo" / "images").mkdir()
    (tmp_path / "yolo" / "images" / "a.jpg").write_bytes(b"mine")
    export(tmp_path, ["yolo"], several()[:1])
    assert (tmp_path / "yolo" / "images" / "a.jpg").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "yolo" / "labels").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("blocked", [False, True])
def test_yolo_touches_no_file_of_the_user_even_if_it_fails_half_way(tmp_path: Path, *, blocked: bool) -> None:
    export(tmp_path, ["yolo"], several())
    mine = ["images/a.jpg", "labels.cache", "labels/by-hand.txt", "notes/why.md"]
    for name in mine:
        (tmp_path / "yolo" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "yolo" / name).write_bytes(b"mine")
    stray = tmp_path / ".yolo.partial" / "images" / "a.jpg"  # where a version before this one could leave pictures
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"mine")
    if blocked:  # a folder under the name of a label: the renaming fails
        (tmp_path / "yolo" / "labels" / "a.txt").unlink()
        (tmp_path / "yolo" / "labels" / "a.txt").mkdir()
        with pytest.raises(GensegError, match="cannot be saved"):
            export(tmp_path, ["yolo"], several()[:1])
        (tmp_path / "yolo" / "labels" / "a.txt").rmdir()
    export(tmp_path, ["yolo"], several()[:1])
    assert [(tmp_path / "yolo" / name).read_bytes() for name in mine] == [b"mine"] * len(mine)
    assert stray.read_bytes() == b"mine"
    assert {path.name for path in (tmp_path / "yolo" / "labels").iterdir()} == {"a.txt", "by-hand.txt"}


def test_a_table_that_is_not_genseg_s_leads_to_no_removal(tmp_path: Path) -> None:
    (tmp_path / "yolo").mkdir()
    (tmp_path / "victim.txt").write_bytes(b"mine")
    (tmp_path / "yolo" / "pictures.csv").write_text("label,image\nlabels/../../victim.txt,a\nother,b\n")
    export(tmp_path, ["yolo"], several())
    assert (tmp_path / "victim.txt").read_bytes() == b"mine"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a few pictures, two of which share a stem and two a name."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/IMG_0001 (2).JPG", "photos/IMG_0001 (2).png", "photos/deep/scene.webp", "other/scene.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        IMAGE.save(tmp_path / name, "PNG")
    return tmp_path


def about(*images: str, masks: Sequence[np.ndarray] | None = None, query: str = "it") -> list[Prediction]:
    """A prediction for each picture."""
    return [
        made_prediction(shapes()[:1] if masks is None else masks, id=name, image=name, query=query) for name in images
    ]


def coco_names(folder: Path) -> tuple[str | None, list[str]]:
    content = json.loads((folder / "coco.json").read_bytes())
    return content["info"]["images_root"], [image["file_name"] for image in content["images"]]


def test_coco_names_are_relative_to_the_folder_that_the_pictures_share(photos: Path) -> None:
    one, deep, other = "photos/IMG_0001 (2).JPG", "photos/deep/scene.webp", "other/scene.webp"
    export(photos / "out", ["coco"], about(one, deep))
    assert coco_names(photos / "out") == ("photos", ["IMG_0001 (2).JPG", "deep/scene.webp"])
    export(photos / "out", ["coco"], about(one))
    assert coco_names(photos / "out") == ("photos", ["IMG_0001 (2).JPG"])
    export(photos / "out", ["coco"], about(one, other))
    assert coco_names(photos / "out") == (".", [one, other])
    export(photos / "out", ["coco"], about(str(photos / one)))
    assert coco_names(photos / "out") == (str(photos / "photos"), ["IMG_0001 (2).JPG"])
    export(photos / "out", ["coco"], about(one, "https://h/a.jpg", "bytes:0123456789abcdef"))
    assert coco_names(photos / "out") == ("photos", ["IMG_0001 (2).JPG", "https://h/a.jpg", "bytes:0123456789abcdef"])


def test_coco_names_are_relative_to_the_root_that_was_asked_for(photos: Path) -> None:
    from pathlib import Path

    one = "photos/deep/scene.webp"
    export(photos / "out", ["coco"], about(one), images_root=Path("photos"))
    assert coco_names(photos / "out") == ("photos", ["deep/scene.webp"])
    with pytest.raises(GensegError, match=r"other/scene\.webp: not below --images-root photos") as caught:
        export(photos / "out", ["coco"], about(one, "other/scene.webp"), images_root=Path("photos"))
    assert caught.value.hint
    assert coco_names(photos / "out") == ("photos", ["deep/scene.webp"]), "the old file stays whole"


def test_a_picture_that_is_spelled_in_two_ways_is_one_picture(photos: Path) -> None:
    predictions = about("photos/deep/scene.webp", "./photos/deep/../deep/scene.webp")
    export(photos / "out", ["coco", "yolo"], predictions)
    content = json.loads((photos / "out" / "coco.json").read_bytes())
    assert [annotation["image_id"] for annotation in content["annotations"]] == [1, 1]
    assert [path.name for path in (photos / "out" / "yolo" / "labels").iterdir()] == ["scene.txt"]


def test_coco_without_scores_can_be_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.cocoeval import COCOeval

    prediction = made_prediction(shapes())
    assert prediction.instances[2].score is None
    export(tmp_path, ["coco"], [prediction])
    coco = COCO(str(tmp_path / "coco.json"))
    results = coco.loadRes(json.loads((tmp_path / "coco.json").read_bytes())["annotations"])
    evaluation = COCOeval(coco, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_empty_masks_are_told_in_every_format(tmp_path: Path) -> None:
    empty = np.zeros((HEIGHT, WIDTH), dtype=bool)
    prediction = made_prediction([shapes()[0], empty])
    exporter = export(tmp_path, ["rle", "geojson", "coco", "yolo"], [prediction])
    paths = exporter.paths(prediction)
    instances = json.loads(paths["rle"].read_bytes())["instances"]
    assert [(one["empty"], one["bbox"] == [0, 0, 0, 0]) for one in instances] == [(False, False), (True, True)]
    features = json.loads(paths["geojson"].read_bytes())["features"]
    assert [(one["geometry"] is None, one["properties"]["empty"]) for one in features] == [(False, False), (True, True)]
    assert [a["area"] for a in json.loads((tmp_path / "coco.json").read_bytes())["annotations"]] == [
        int(shapes()[0].sum())
    ]
    assert list((tmp_path / "yolo" / "labels").iterdir()) == []
    assert exporter.notes == [
        "coco: 1 object left out, having an empty mask",
        (
            "yolo: 1 picture left out, with an empty mask or an unreadable answer: "
            "an empty label file would say that nothing is there"
        ),
    ]


def test_yolo_with_pictures_is_a_data_set(photos: Path) -> None:
    names = ["photos/IMG_0001 (2).JPG", "photos/IMG_0001 (2).png", "photos/deep/scene.webp", "other/scene.webp"]
    exporter = export(photos / "out", ["yolo"], about(*names), copy_images=True)
    yolo = photos / "out" / "yolo"
    with (yolo / "pictures.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == names
    for row in rows:
        image, label = yolo / row["file"], yolo / row["label"]
        assert image.read_bytes() == (photos / row["image"]).read_bytes()
        assert not image.is_symlink()
        # As trainers find the label of a picture.
        assert str(image).replace("/images/", "/labels/").rsplit(".", 1)[0] + ".txt" == str(label)
        assert label.read_text()
    assert [row["file"] for row in rows][::2] == ["images/IMG_0001 (2).JPG", "images/scene.webp"]
    assert exporter.notes == ["yolo: 2 pictures renamed, see pictures.csv"]

    export(photos / "out", ["yolo"], about(names[0]), copy_images=True)
    assert [path.name for path in (yolo / "images").iterdir()] == ["IMG_0001 (2).JPG"]
    discard_outputs(photos / "out")
    assert not yolo.exists()
    assert all((photos / name).is_file() for name in names)


def test_yolo_copies_never_replace_a_picture_of_the_user(photos: Path) -> None:
    mine = photos / "out" / "yolo" / "images" / "scene.webp"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    for _ in range(2):
        export(photos / "out", ["yolo"], about("other/scene.webp"), copy_images=True)
        assert mine.read_bytes() == b"mine"
        (copy,) = set(mine.parent.iterdir()) - {mine}
        assert copy.read_bytes() == (photos / "other" / "scene.webp").read_bytes()
    discard_outputs(photos / "out")
    assert [path.name for path in mine.parent.iterdir()] == ["scene.webp"]


def test_yolo_writes_pictures_that_are_no_common_file_as_png(photos: Path) -> None:
    IMAGE.save(photos / "photos" / "a.gif")
    names = ["photos/a.gif", "https://h/cat.png?sha256=586438516752", "bytes:0123456789abcdef"]
    export(photos / "out", ["yolo"], about(*names), copy_images=True)
    with (photos / "out" / "yolo" / "pictures.csv").open(encoding="utf-8", newline="") as stream:
        files = [photos / "out" / "yolo" / row["file"] for row in csv.DictReader(stream)]
    for path in files:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", IMAGE.size)
    assert len(set(files)) == 3


def test_yolo_leaves_out_what_is_gone(photos: Path) -> None:
    exporter = export(photos / "out", ["yolo"], about("other/scene.webp", "other/gone.jpg"), copy_images=True)
    assert [path.name for path in (photos / "out" / "yolo" / "labels").iterdir()] == ["scene.txt"]
    assert exporter.notes == ["yolo: 1 picture left out, not there any more to be copied"]


@pytest.mark.parametrize(
    "query", ["a\uffff b", "\ufeffx", "狗 🐕", "a: [b]", "tab\there", "\u2028x", "\x85", 'it\'s "it" \\']
)
def test_data_yaml_is_yaml_whatever_was_asked(tmp_path: Path, query: str) -> None:
    yaml = pytest.importorskip("yaml")
    export(tmp_path, ["yolo"], about("a.jpg", query=query))
    content = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert content == {"train": "images", "val": "images", "names": {0: query}}


def test_a_table_of_pictures_holds_no_formula(tmp_path: Path) -> None:
    export(tmp_path, ["yolo"], about("=cmd()|x.jpg"))
    with (tmp_path / "yolo" / "pictures.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == ["'=cmd()|x.jpg"]


def test_all_means_every_format_and_options_without_their_format_are_refused(tmp_path: Path) -> None:
    assert Exporter(tmp_path, ["all"]).formats == FORMATS
    with pytest.raises(GensegError, match="formats is a text, expected a list"):
        Exporter(tmp_path, "png")
    with pytest.raises(GensegError, match="yolo"):
        Exporter(tmp_path, ["png"], copy_images=True)
    with pytest.raises(GensegError, match="coco"):
        Exporter(tmp_path, ["png"], images_root=tmp_path)


def test_the_name_of_a_file_says_which_picture_it_shows(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, ["overlay"])
    names = [
        exporter.paths(prediction)["overlay"].name for prediction in about("x/coffee.avif", "coffee.tiff", "noext")
    ]
    assert [name.partition("__")[0] for name in names] == ["coffee.avif", "coffee.tiff", "noext"]


def test_geojson_polygons_give_the_masks_back(tmp_path: Path) -> None:
    predictions = several()
    exporter = export(tmp_path, ["geojson"], predictions)
    collection = json.loads(exporter.paths(predictions[0])["geojson"].read_text())
    assert collection["type"] == "FeatureCollection"
    assert (collection["image"], collection["query"]) == ("x/a.jpg", "round things")
    for feature, mask in zip(collection["features"], shapes()[:2], strict=True):
        assert feature["geometry"]["type"] == "MultiPolygon"
        rings = [ring for polygon in feature["geometry"]["coordinates"] for ring in polygon]
        assert all(ring[0] == ring[-1] for ring in rings)
        np.testing.assert_array_equal(rasterise([ring[:-1] for ring in rings], HEIGHT, WIDTH), mask)
    assert [len(polygon) for polygon in collection["features"][0]["geometry"]["coordinates"]] == [2]  # the hole
    no_target, refused, empty = (
        json.loads(exporter.paths(predictions[number])["geojson"].read_text()) for number in (1, 3, 4)
    )
    assert (no_target["no_target"], no_target["refusal"], no_target["features"]) == (True, None, [])
    assert (refused["no_target"], refused["refusal"]) == (False, "empty")
    assert empty["features"][0]["geometry"] is None


def test_overlay_is_a_picture(tmp_path: Path) -> None:
    prediction = several()[0]
    with Image.open(export(tmp_path, ["overlay"], [prediction]).paths(prediction)["overlay"]) as image:
        image.load()
        assert image.format == "JPEG"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "a/b\\c.jpg",
        "CON",
        ".hidden",
        "x" * 5000,
        "狗" * 500,
        "a\0b",
        "..",
        "",
        "https://h/a?b=/../c",
    ],
)
def test_names_stay_below_the_folder_whatever_they_come_from(tmp_path: Path, name: str) -> None:
    prediction = made_prediction([], id=name, image=name, query=name)
    folder = tmp_path / "out"
    export(folder, ["png", "yolo"], [prediction])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 4
    assert all(path.is_relative_to(folder) and not path.name.startswith(".") for path in written)


def test_ids_that_differ_in_anything_have_their_own_files(tmp_path: Path) -> None:
    ids = ["a", "A", "a ", "a/", "á", "a" * 300, "a" * 301]
    exporter = export(tmp_path, ["png"], [made_prediction([], id=one) for one in ids])
    assert len(list((tmp_path / "png").iterdir())) == exporter.saved == len(ids)


# ---------------------------------------------------------------- resuming, kills, full disks


def test_a_resumed_run_ends_with_the_same_files(tmp_path: Path) -> None:
    predictions = several()
    formats = [name for name in FORMATS if name != "overlay"]
    export(tmp_path / "once", formats, predictions)

    interrupted = Exporter(tmp_path / "twice", formats)
    for prediction in predictions[:2]:
        interrupted.write(prediction, IMAGE)
    # What a kill in the middle of a write and of a build leaves behind:
    (tmp_path / "twice" / "png" / ".a__x.png.partial").write_bytes(b"half")
    (tmp_path / "twice" / ".coco.json.partial").write_bytes(b'{"images": [')
    (tmp_path / "twice" / ".yolo.partial" / "labels").mkdir(parents=True)
    (tmp_path / "twice" / ".yolo.partial" / "labels" / "a.txt").write_text("0 0.1 half")
    assert not (tmp_path / "twice" / "coco.json").exists()
    resumed = Exporter(tmp_path / "twice", formats)
    assert [resumed.is_complete(prediction) for prediction in predictions] == [True, True, False, False, False]
    for prediction in predictions[2:]:
        resumed.write(prediction, IMAGE)
    resumed.close(iter(predictions))

    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".a__x.png.partial")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert content(tmp_path / "twice") == content(tmp_path / "once")


def test_a_failing_build_leaves_the_old_files(tmp_path: Path) -> None:
    export(tmp_path, ["coco", "yolo"], several())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def broken() -> Any:
        yield several()[2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Exporter(tmp_path, ["coco", "yolo"]).close(broken())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from gensegcli.errors import ExitCode, GensegError
from gensegcli.exports import Exporter
from tests.made import made_prediction

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
small, noise = np.zeros((200, 300), bool), np.random.default_rng(0).random((200, 300)) < 0.5
small[5:9, 5:9] = True
image = Image.new("RGB", (300, 200))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
exporter = Exporter(folder, sys.argv[3].split(","))
try:
    done = [made_prediction([small], id="1"), made_prediction([noise], id="2")]
    for prediction in done:
        exporter.write(prediction, image)
    exporter.close(done)
except GensegError as error:
    print(error.code, error.message, error.hint, sep="\\n")
"""


@pytest.mark.parametrize(("formats", "saved"), [("png", 1), ("rle,geojson", 1), ("coco", 2), ("yolo", 2)])
def test_a_file_that_does_not_fit_is_one_clear_line_and_harms_nothing(
    tmp_path: Path, project_root: Path, formats: str, saved: int
) -> None:
    """The system refuses to let a file grow beyond 4 kB: the same path through the code as a full disk."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out"), "4096", formats]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root, env=_env(project_root), check=True)
    code, message, hint = done.stdout.splitlines()
    assert code == "3"
    assert "cannot be saved (File too large)" in message
    assert hint.startswith(f"{saved} predictions are saved whole")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 4096 and "partial" not in path.name for path in left)
    assert len(left) == (formats.count(",") + 1 if saved == 1 else 0)


def test_a_full_disk_is_one_clear_line_and_harms_nothing(tmp_path: Path, project_root: Path) -> None:
    """A real file system of 64 kB, where this machine lets an ordinary user mount one."""
    script = 'mount -t tmpfs -o size=64k tmpfs "$1" && "$2" -c "$3" "$1/out" 0 png,rle,geojson && ls "$1/out/png"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(tmp_path),
        sys.executable,
    ]
    try:
        done = subprocess.run(
            [*command, FULL_DISK], capture_output=True, text=True, cwd=project_root, env=_env(project_root), check=False
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no private file systems here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    code, message, hint, *left = done.stdout.splitlines()
    assert code == "3"
    assert "cannot be saved (No space left on device)" in message
    assert hint.startswith("1 predictions are saved whole")
    assert all(name.endswith(".png") for name in left)


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(GensegError, match=r"cannot be saved \((Not a directory|File exists)\)"):
        export(tmp_path / "out", ["png"], several())
    with pytest.raises(GensegError, match="cannot be saved"):
        export(tmp_path / "out", ["coco"], several())


def _env(project_root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{project_root / 'src'}{os.pathsep}{project_root}"}


def test_memory_does_not_grow_with_the_masks(tmp_path: Path) -> None:
    """Two thousand predictions of one noisy mask: 20 MB of run lengths on disk, a fraction of that in memory."""
    import tracemalloc

    noise = np.random.default_rng(0).random((60, 80)) < 0.5
    one = made_prediction([noise], query="it")
    exporter = Exporter(tmp_path, ["coco"])
    tracemalloc.start()
    exporter.close(one for _ in range(2000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = (tmp_path / "coco.json").stat().st_size
    assert size > 4_000_000
    assert peak < size / 4


def test_discarding_takes_what_genseg_wrote_and_nothing_else(tmp_path: Path) -> None:
    export(tmp_path, FORMATS, several())
    mine = [
        "overlay/notes.jpg",
        "png/mask.png",
        "rle/a.json",
        "yolo/images/a.jpg",
        "yolo/labels/b.txt",
        "geojson/x.txt",
    ]
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    discard_outputs(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(mine)

    (tmp_path / "coco.json").write_text('{"info": {"description": "somebody else"}}')
    (tmp_path / "yolo" / "data.yaml").write_text("names: []")
    discard_outputs(tmp_path)
    assert (tmp_path / "coco.json").exists()
    assert (tmp_path / "yolo" / "data.yaml").exists()


def test_the_table_of_pictures_holds_no_formula(tmp_path: Path) -> None:
    """A picture may be called `=cmd|…`: a spreadsheet that opens the table calculates nothing."""
    predictions = [made_prediction([], (4, 3), id=name, image=name) for name in ("=1+1.png", "@a.png", "a=b.png")]
    for _ in range(2):  # the table is read before it is written again
        export(tmp_path, ["yolo"], predictions)
    with (tmp_path / "yolo" / "pictures.csv").open(newline="") as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    assert {"'=1+1.png", "'@a.png", "a=b.png"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]


LINKS = (".coco.json.partial", "coco.json", "png", "png/{}.png", "png/.{}.png.partial", "rle/{}.json", "yolo")
LINKS += (".yolo.partial", ".yolo.partial/labels", "yolo/labels", "yolo/labels/a.txt", "yolo/data.yaml")
LINKS += ("yolo/pictures.csv", "yolo/.pictures.csv.partial", "yolo/.data.yaml.partial")


@pytest.mark.parametrize("link", LINKS)
def test_no_link_below_the_folder_is_followed(tmp_path: Path, link: str) -> None:
    """A folder got from others may hold links to anywhere; what they lead to is neither written nor removed."""
    victims, out = tmp_path / "victims", tmp_path / "out"
    (victims / "labels").mkdir(parents=True)
    kept = ("precious", "data.yaml", "labels/precious", "labels/a.txt", f"{prediction_stem(several()[0])}.png")
    for name in kept:
        (victims / name).write_text("precious")
    planted = out / link.format(prediction_stem(several()[0]))
    planted.parent.mkdir(parents=True)
    folder = (planted.suffix == "" and not planted.name.endswith("partial")) or planted.name == ".yolo.partial"
    planted.symlink_to(victims if folder else victims / "precious")
    for _ in range(2):
        with suppress(GensegError):
            discard_outputs(out)
        with suppress(GensegError):
            export(out, ["png", "rle", "coco", "yolo"], several())
    assert {path.relative_to(victims).as_posix() for path in victims.rglob("*") if path.is_file()} == set(kept)
    assert {(victims / name).read_text() for name in kept} == {"precious"}


@pytest.mark.parametrize("link", ["png", "yolo", ".yolo.partial", "yolo/labels"])
def test_a_link_in_place_of_a_folder_is_named(tmp_path: Path, link: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / link).parent.mkdir(parents=True)
    (tmp_path / "out" / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GensegError, match=f"{link}: a symbolic link") as caught:
        export(tmp_path / "out", ["png", "yolo"], several())
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """The user made it, or named it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    export(tmp_path / "out", ["png", "coco", "yolo"], several())
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"png", "coco.json", "yolo"}


@pytest.mark.parametrize("form", FILE_FORMATS)
@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_a_file_that_was_cut_short_is_written_again(tmp_path: Path, form: str, left: int) -> None:
    (prediction, *_) = several()
    exporter = export(tmp_path, [form], [prediction])
    path = exporter.paths(prediction)[form]
    assert exporter.is_complete(prediction)
    assert not exporter.needs_picture(prediction, renew=False)
    path.write_bytes(path.read_bytes()[:left])
    assert not exporter.is_complete(prediction)
    assert exporter.needs_picture(prediction, renew=False) == (form == "overlay")
