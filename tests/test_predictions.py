"""The JSON form: there and back without loss, and a clear line for whatever is not of the form."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.predictions import PredictionForm, from_json, to_json, union_mask
from gensegcli.records import (
    FinishReason,
    GridBox,
    GridPoint,
    Instance,
    MaskPrompt,
    PixelBox,
    PixelPoint,
    PredictedInstance,
    Prediction,
    PromptMode,
    Refusal,
    RefusalKind,
    Size,
)
from tests.made import made_prediction

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    size = Size(draw(st.integers(1, 20)), draw(st.integers(1, 20)))

    def instance() -> PredictedInstance:
        mask = draw(st_numpy.arrays(bool, (size.height, size.width)))
        points = draw(st.lists(st.tuples(numbers, numbers), max_size=2))
        return PredictedInstance(
            Instance(GridBox(*draw(st.tuples(*[numbers] * 4))), tuple(GridPoint(*point) for point in points)),
            MaskPrompt(PixelBox(*draw(st.tuples(*[numbers] * 4))), (), tuple(PixelPoint(*point) for point in points)),
            rle.encode(mask),
            draw(st.none() | numbers),
        )

    return Prediction(
        id=draw(texts),
        image=draw(texts),
        query=draw(texts),
        size=size,
        no_target=draw(st.booleans()),
        instances=tuple(instance() for _ in range(draw(st.integers(0, 3)))),
        think=draw(st.none() | texts),
        raw=draw(texts),
        refusal=draw(st.none() | st.builds(Refusal, st.sampled_from(RefusalKind), texts, st.none() | texts)),
        finish=draw(st.sampled_from(FinishReason)),
        tokens=draw(st.integers(0, 2**31)),
        timings=draw(st.dictionaries(texts, numbers, max_size=3)),
        model=draw(texts),
        model_revision=draw(st.none() | texts),
        segmenter=draw(texts),
        segmenter_revision=draw(st.none() | texts),
        prompt_mode=draw(st.sampled_from(PromptMode)),
        dialect=draw(texts),
        prompt_digest=draw(texts),
        dropped=draw(st.dictionaries(st.sampled_from(["instances", "points", "negatives"]), st.integers(1, 120))),
        clipped=draw(st.integers(0, 360)),
    )


@settings(max_examples=100)
@given(predictions())
def test_there_and_back_through_both_json_libraries(prediction: Prediction) -> None:
    form = to_json(prediction)
    assert from_json(form) == prediction
    assert from_json(orjson.loads(orjson.dumps(form))) == prediction
    assert from_json(json.loads(json.dumps(form, allow_nan=False))) == prediction


def test_masks_are_read_by_pycocotools_and_united() -> None:
    first, second = np.zeros((2, 48, 64), dtype=bool)
    first[3:20, 5:30] = True
    second[10:40, 20:22] = True
    prediction = made_prediction([first, second])
    form: dict[str, Any] = to_json(prediction)
    decoded = coco_mask.decode(form["instances"][0]["mask"])
    np.testing.assert_array_equal(decoded.astype(bool), first)
    np.testing.assert_array_equal(union_mask(prediction), first | second)
    assert union_mask(made_prediction(size=(5, 3))).shape == (3, 5)
    assert not union_mask(made_prediction(size=(5, 3))).any()


def _record() -> dict[str, Any]:
    mask = np.zeros((48, 64), dtype=bool)
    mask[3:20, 5:30] = True
    return copy.deepcopy(to_json(made_prediction([mask])))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("version",), 2, r"prediction a1: version: Input should be 1"),
        (("width",), 0, "width: Input should be greater than or equal to 1"),
        (("width",), 63, r"run-length size \[48, 63\]"),
        (("finish",), "tired", "finish: Input should be 'stop' or 'length'"),
        (("instances",), {}, "instances: Input should be a valid tuple"),
        (("instances", 0, "grid", "box"), [1, 2, 3], r"instances\.0\.grid\.box\.3: Field required"),
        (("instances", 0, "pixels", "box", 2), float("nan"), r"pixels\.box\.2: Input should be a finite number"),
        (("instances", 0, "score"), "high", r"instances\.0\.score"),
        (("instances", 0, "mask", "counts"), "not a mask", "prediction a1: segmentation"),
        (("instances", 0, "mask", "counts"), "oooooooooooo", "counts are damaged"),
        (("instances", 0, "mask", "counts"), "", "counts are damaged"),
        (("refusal",), {"kind": "moody", "detail": "", "think": None}, r"refusal\.kind"),
        (("model",), "demo", "model: Input should be"),
        (("tokens",), -1, "tokens"),
        (("dropped",), 3, "dropped"),
        (("dropped",), {"points": -1}, r"dropped\.points"),
        (("clipped",), None, "clipped"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str | int, ...], value: object, words: str) -> None:
    record: Any = _record()
    place = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(GensegError, match=words):
        from_json(record)


LATER = {"dropped": {}, "clipped": 0}
"""Fields that older writers did not know, with what their absence means."""


@pytest.mark.parametrize("field", [name for name in PredictionForm.model_fields if name not in LATER])
def test_a_missing_field_is_named(field: str) -> None:
    record = _record()
    del record[field]
    with pytest.raises(GensegError, match=rf": {field}: Field required"):
        from_json(record)


def test_a_record_of_an_older_writer_is_read() -> None:
    record = _record()
    for field, value in LATER.items():
        assert record.pop(field) == value
    prediction = from_json(record)
    assert {field: getattr(prediction, field) for field in LATER} == LATER
    assert prediction.dropped_total == 0


def test_what_was_dropped_adds_up() -> None:
    prediction = made_prediction(dropped={"instances": 1, "points": 3}, clipped=2)
    assert prediction.dropped_total == 4
    assert from_json(to_json(prediction)) == prediction


def test_unknown_fields_of_newer_writers_are_left_alone() -> None:
    record = _record()
    assert from_json({**record, "mood": "fine"}) == from_json(record)


def test_the_page_lists_every_field_with_its_meaning(project_root: Path) -> None:
    page = (project_root / "docs" / "predictions.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \|[^|]*\| (.+?) \|$", page, flags=re.MULTILINE))

    def fields(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
        found = {}
        for name, field in model.model_fields.items():
            found[prefix + name] = str(field.description)
        return found

    from gensegcli import predictions as module

    expected = {
        **fields(PredictionForm),
        **fields(module.FoundInstance, "instances."),
        **fields(module.Prompts, "grid."),
        **fields(module.Mask, "mask."),
        **fields(module.RefusalForm, "refusal."),
        **fields(module.ModelId, "model."),
    }
    assert rows == expected
