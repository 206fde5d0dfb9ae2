"""The prompt texts, word for word: a change shows here, and with it that results are no longer comparable."""

from __future__ import annotations

import hashlib

import pytest
from inline_snapshot import snapshot

from gensegcli.dialects import DIALECTS, get_dialect
from gensegcli.dialects.custom import with_prompt
from gensegcli.dialects.genseg import NO_TARGET_SENTENCE
from gensegcli.errors import GensegError


def test_genseg() -> None:
    assert get_dialect("genseg").ask("a red cup") == snapshot("""\
Find every object in the picture that matches this expression: "a red cup"
First think: go through the objects that could be meant, compare each with the expression, and decide which of them match, be it one, several or none. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is a list with one entry per matching object: [{"bbox_2d": [x1, y1, x2, y2], "point_1": [x, y], "point_2": [x, y]}]
"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_1" and "point_2" are two points well inside the object, on its visible part, and apart from each other. All coordinates are whole numbers on a grid from 0 to 1000 in both directions, whatever the shape of the picture: (0, 0) is its top left corner and (1000, 1000) its bottom right corner.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_genseg_pixels() -> None:
    assert get_dialect("genseg-pixels").ask("a red cup") == snapshot("""\
Find every object in the picture that matches this expression: "a red cup"
First think: go through the objects that could be meant, compare each with the expression, and decide which of them match, be it one, several or none. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is a list with one entry per matching object: [{"bbox_2d": [x1, y1, x2, y2], "point_1": [x, y], "point_2": [x, y]}]
"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_1" and "point_2" are two points well inside the object, on its visible part, and apart from each other. All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, x grows to the right and y downwards.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_genseg_neg() -> None:
    assert get_dialect("genseg-neg").ask("a red cup") == snapshot("""\
Find every object in the picture that matches this expression: "a red cup"
First think: go through the objects that could be meant, compare each with the expression, and decide which of them match, be it one, several or none. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is a list with one entry per matching object: [{"bbox_2d": [x1, y1, x2, y2], "point_1": [x, y], "point_2": [x, y], "negative_points": [[x, y], [x, y]]}]
"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_1" and "point_2" are two points well inside the object, on its visible part, and apart from each other. "negative_points" are up to two points inside the box but clearly off the object and off every other matching object, where background shows; leave them out if the box shows none. All coordinates are whole numbers on a grid from 0 to 1000 in both directions, whatever the shape of the picture: (0, 0) is its top left corner and (1000, 1000) its bottom right corner.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_genseg_mini() -> None:
    assert get_dialect("genseg-mini").ask("a red cup") == snapshot("Find: a red cup")
    assert get_dialect("genseg-mini-neg").ask("a red cup") == snapshot("Find, with negative_points: a red cup")


def test_seg_zero() -> None:
    assert get_dialect("seg-zero").ask("a red cup") == snapshot("""\
Find the one object in the picture that matches this expression best: "a red cup"
First think: compare the objects that could be meant. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is one object: {"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}
"bbox" is the tight box around the object: left, top, right and bottom edge. "points_1" and "points_2" are the centres of the two largest circles that fit inside the object. All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, x grows to the right and y downwards.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_vision_reasoner() -> None:
    assert get_dialect("vision-reasoner").ask("a red cup") == snapshot("""\
Find all objects in the picture that match this expression: "a red cup"
First think: compare the objects that could be meant and tell which differ from the rest. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is a list with one entry per object: [{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]
"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_2d" is a point in the middle of the object. All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, x grows to the right and y downwards.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_visurf() -> None:
    assert get_dialect("visurf").ask("a red cup") == snapshot("""\
Find all objects in the picture that match this expression: "a red cup"
First think: compare the objects that could be meant and tell which differ from the rest. Then answer with JSON and nothing else. Write both in this form:
<think>your reasoning</think><answer>JSON</answer>
The JSON is a list with one entry per object: [{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]
"bbox_2d" is the tight box around the object: left, top, right and bottom edge. "point_2d" is a point in the middle of the object. All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, x grows to the right and y downwards.
If nothing in the picture matches, answer []; do not choose something similar.\
""")


def test_seg_r1() -> None:
    assert get_dialect("seg-r1").ask("a red cup") == snapshot("""\
Segment what this expression describes in the picture: "a red cup"
First think about where it is and what its outline looks like. Then give boxes and points that outline it. Write all in this form:
<think>your reasoning</think><bbox>[x1, y1, x2, y2]</bbox><points>[[x, y], [x, y]]</points><labels>[1, 0]</labels>
Give one bbox part for each separate region: left, top, right and bottom edge. The points of all regions stand in one list; labels has one number per point, 1 for a point on the object and 0 for a point on the background.
All coordinates are whole numbers in pixels of the picture: (0, 0) is its top left corner, x grows to the right and y downwards.
If nothing in the picture matches, answer {"no_target": true}; do not choose something similar.\
""")


def test_digests() -> None:
    assert {name: dialect.digest for name, dialect in DIALECTS.items()} == snapshot(
        {
            "genseg": "2d7f00724811",
            "genseg-pixels": "fc7a1a5e9d93",
            "genseg-neg": "9233243857a2",
            "genseg-mini": "63ab3c1e7f48",
            "genseg-mini-neg": "606b1c9e617c",
            "seg-zero": "ebe5a126f7a0",
            "vision-reasoner": "f551e9f3984d",
            "visurf": "6327ae1eecf8",
            "seg-r1": "4b21ecbf2dea",
        }
    )


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_digest_is_that_of_the_template(name: str) -> None:
    template = get_dialect(name).ask("{query}")

    assert get_dialect(name).digest == hashlib.sha256(template.encode()).hexdigest()[:12]
    assert template.count("{query}") == 1


@pytest.mark.parametrize("name", sorted(set(DIALECTS) - {"genseg-mini", "genseg-mini-neg", "visurf"}))
def test_every_full_question_offers_the_same_way_to_abstain(name: str) -> None:
    assert get_dialect(name).ask("x").endswith(NO_TARGET_SENTENCE)


def test_only_the_grid_questions_speak_of_the_grid() -> None:
    assert {name for name, dialect in DIALECTS.items() if "0 to 1000" in dialect.ask("x")} == {"genseg", "genseg-neg"}
    assert {name for name, dialect in DIALECTS.items() if "pixels" in dialect.ask("x")} == {
        *("genseg-pixels", "seg-zero", "vision-reasoner", "visurf", "seg-r1")
    }


@pytest.mark.parametrize("query", ["{}", "{0}", "{query}", "{query} {query}", '"', "%s", "\\1 $1", "a}b{"])
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_braces_in_an_expression_are_letters(name: str, query: str) -> None:
    dialect = get_dialect(name)

    assert dialect.ask(query) == dialect.ask("@@").replace("@@", query)


def test_an_unknown_dialect_gets_the_nearest_and_the_known_ones() -> None:
    with pytest.raises(GensegError, match="unknown dialect 'genseg-pixel'") as caught:
        get_dialect("genseg-pixel")
    assert caught.value.hint.startswith("did you mean genseg-pixels? known: genseg, ")


def test_a_question_of_ones_own_is_unicode_and_names_the_expression() -> None:
    assert with_prompt(get_dialect("genseg"), "{query}\u2028{}").ask("a cup") == "a cup\u2028{}"
    with pytest.raises(GensegError, match=r"no \{query\} in it"):
        with_prompt(get_dialect("genseg"), "where is it?")
    with pytest.raises(GensegError, match="half of a surrogate pair"):
        with_prompt(get_dialect("genseg"), "{query}\ud800")
