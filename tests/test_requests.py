"""From the command line to requests: every kind of input, in a stable order, with bad rows set aside."""

from __future__ import annotations

import io
import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import ExitCode, GensegError
from gensegcli.listing import LeftOut
from gensegcli.records import Failure
from gensegcli.requests import MAX_QUERY_CHARS, Request, checked_query, expand_requests, request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures (by name: nothing here opens one) and things that are none."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/notes.txt",
        "photos/.hidden.jpg",
        "photos/deep/c.webp",
        "x.dat",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def asked(items: Iterator[Request | Failure]) -> list[tuple[object, str]]:
    """Picture and query of each request; there must be no failure."""
    found = list(items)
    assert all(isinstance(item, Request) for item in found), found
    return [(item.image, item.query) for item in found]


def picture(*parts: str) -> str:
    return str(Path(*parts))


# ---------------------------------------------------------------- pictures


def test_a_folder_gives_its_pictures_in_order_and_nothing_else(photos: Path) -> None:
    assert asked(expand_requests(["photos"], ["a dog"])) == [
        (picture("photos", "a.PNG"), "a dog"),
        (picture("photos", "b.jpg"), "a dog"),
    ]


def test_each_picture_gets_every_expression_before_the_next_picture(photos: Path) -> None:
    """So that a picture is decoded and encoded once."""
    found = asked(expand_requests(["photos/b.jpg", "x.dat"], ["A dog.", "a cat", "a  DOG"]))
    assert found == [("photos/b.jpg", "a dog"), ("photos/b.jpg", "a cat"), ("x.dat", "a dog"), ("x.dat", "a cat")]


def test_globs_go_deeper_when_told_to_and_skip_what_is_no_picture(photos: Path) -> None:
    names = [name for name, _ in asked(expand_requests(["photos/**/*"], ["it"]))]
    assert names == [picture("photos", "a.PNG"), picture("photos", "b.jpg"), picture("photos", "deep", "c.webp")]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(photos: Path) -> None:
    Path("a[1].jpg").touch()
    assert asked(expand_requests(["a[1].jpg"], ["it"])) == [("a[1].jpg", "it")]


def test_addresses_are_passed_on_unopened() -> None:
    assert asked(expand_requests(["https://example.org/a.jpg?x=1"], ["it"])) == [
        ("https://example.org/a.jpg?x=1", "it")
    ]


def test_failures_and_errors_quote_no_secret_of_an_address() -> None:
    (only,) = expand_requests(["-"], [], stdin=io.BytesIO(b'{"image": "https://u:s3cret@h/a.jpg?t=s3cret"}'))
    assert isinstance(only, Failure)
    assert "s3cret" not in repr(only)
    with pytest.raises(GensegError, match=r"https://h/a\.jpg\?sha256=[0-9a-f]{12}: no expression") as caught:
        expand_requests(["https://u:s3cret@h/a.jpg?t=s3cret"], [])
    assert "s3cret" not in str(caught.value)


def test_ids_are_the_same_on_every_machine_and_differ_by_picture_and_query() -> None:
    first, second = expand_requests(["https://h/a.jpg"], ["the dog", "the cat"])
    assert (first.id, second.id) == ("7a71326e389a9797", "483ff72eeaf3c5c2")


parts = st.text("ab /", max_size=4)


@given(parts, parts, parts, parts)
def test_different_questions_have_different_ids(image: str, query: str, other_image: str, other_query: str) -> None:
    same = (image, query) == (other_image, other_query)
    assert (request_id(image, query) == request_id(other_image, other_query)) == same


def test_the_same_question_is_asked_once_and_reported(photos: Path) -> None:
    repeats: list[Request] = []
    found = list(expand_requests(["photos/b.jpg", "photos", "photos/b.jpg"], ["it"], on_repeat=repeats.append))
    assert [item.image for item in found] == ["photos/b.jpg", picture("photos", "a.PNG")]
    assert [item.image for item in repeats] == [picture("photos", "b.jpg"), "photos/b.jpg"]


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("photos/bb.jpg", "photos/bb.jpg: no such file or folder", "did you mean photos"),
        ("nowhere/a.jpg", "no such file or folder", ""),
        ("photos/*.gif", "matches no picture and no manifest", ""),
        ("empty", "no pictures directly in this folder", "--recursive goes into folders"),
        ("a\0b", "no such file", ""),
    ],
)
def test_inputs_that_name_nothing_are_refused_at_once(photos: Path, text: str, words: str, hint: str) -> None:
    Path("empty/deeper").mkdir(parents=True)
    with pytest.raises(GensegError) as caught:
        expand_requests(["photos", text], ["it"])  # not iterated
    assert words in caught.value.message
    assert hint in caught.value.hint.replace("\\", "/")
    assert caught.value.code == ExitCode.NOT_FOUND


def test_usage_errors(photos: Path) -> None:
    for inputs, queries, words in (
        ([], ["it"], "no picture was given"),
        (["photos"], [], "photos: no expression was given"),
        (["photos"], ["it", "  "], "is empty"),
        (["-", "-"], ["it"], "given twice"),
    ):
        with pytest.raises(GensegError, match=words):
            expand_requests(inputs, queries)


# ---------------------------------------------------------------- expressions


@pytest.mark.parametrize("text", ["", "   ", "...", '""', "\n\t"])
def test_an_empty_expression_is_refused(text: str) -> None:
    with pytest.raises(GensegError, match="is empty"):
        checked_query(text)


def test_a_10000_character_expression_is_refused_and_2000_are_taken() -> None:
    with pytest.raises(GensegError, match=r"has 10000 characters, at most 2000 are taken \(it begins 'aaaaa"):
        checked_query("a" * 10_000)
    assert len(checked_query("a" * MAX_QUERY_CHARS)) == 2000
    assert checked_query("a" + " " * 10_000 + "b.") == "a b"


def test_an_expression_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(GensegError, match="not valid UTF-8"):
        checked_query("dog\udc80")


# ---------------------------------------------------------------- manifests

ROWS = [
    {"image": "b.jpg", "query": "The dog."},
    {"image": "deep/c.webp", "query": "the cat", "id": "c-1"},
    {"image": "https://h/a.jpg", "query": "it", "id": "7"},
]


def jsonl(path: Path) -> None:
    path.write_text("\ufeff" + "\n\n".join(json.dumps({**row, "more": [1]}) for row in ROWS) + "\n", encoding="utf-8")


def csv_file(path: Path) -> None:
    separator = "\t" if path.suffix == ".tsv" else ","
    lines = [["query", "image", "id", "more"], *([row["query"], row["image"], row.get("id", ""), ""] for row in ROWS)]
    path.write_text("\r\n".join(separator.join(line) for line in lines), encoding="utf-8-sig")


def parquet(path: Path) -> None:
    table = {name: [row.get(name) for row in ROWS] for name in ("image", "query", "id")}
    pq.write_table(pa.table({**table, "more": [1, 2, 3]}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("m.jsonl", jsonl), ("m.ndjson", jsonl), ("m.csv", csv_file), ("m.tsv", csv_file), ("m.parquet", parquet)],
)
def test_manifests_of_every_kind_say_the_same(photos: Path, name: str, write: Callable[[Path], None]) -> None:
    """Pictures are relative to the manifest, not to the working folder; queries of its own beat the common ones."""
    write(photos / "photos" / name)
    found = list(expand_requests([f"photos/{name}"], ["unused"]))
    first = picture("photos", "b.jpg")
    assert found == [
        Request(request_id(first, "the dog"), first, "the dog"),
        Request("c-1", picture("photos", "deep", "c.webp"), "the cat"),
        Request("7", "https://h/a.jpg", "it"),
    ]
    assert found == list(expand_requests([f"photos/m.{name.split('.')[1]}"], []))
    assert found == list(expand_requests(["photos/m.*"], []))


def test_standard_input_is_jsonl_relative_to_the_working_folder() -> None:
    text = "\n".join(json.dumps(row) for row in ROWS).encode()
    found = asked(expand_requests(["-"], [], stdin=io.BytesIO(text)))
    assert found == [("b.jpg", "the dog"), (picture("deep", "c.webp"), "the cat"), ("https://h/a.jpg", "it")]


def test_rows_without_a_query_get_the_common_ones() -> None:
    lines = io.BytesIO(b'{"image": "a.jpg"}\n{"image": "b.jpg", "query": null}\n')
    found = asked(expand_requests(["-"], ["x", "y"], stdin=lines))
    assert found == [("a.jpg", "x"), ("a.jpg", "y"), ("b.jpg", "x"), ("b.jpg", "y")]


BAD_LINES = {
    b"{": "not JSON",
    b"[1]": "expected an object with image and query, found [1]",
    b'"a.jpg"': "expected an object",
    b"{}": "no image, found nothing",
    b'{"picture": "a.jpg", "query": "q"}': "no image, found picture, query",
    b'{"image": "", "query": "q"}': "image is '', expected a path or an address",
    b'{"image": 3, "query": "q"}': "image is 3",
    b'{"image": "a.jpg"}': "no query, found image",
    b'{"image": "a.jpg", "query": 5}': "query is 5, expected a text",
    b'{"image": "a.jpg", "query": " ? "}': "is empty",
    b'{"image": "a.jpg", "query": "' + b"q" * 10_000 + b'"}': "has 10000 characters",
    b'{"image": "a.jpg", "query": "q", "id": [1]}': "id is [1], expected a text or a whole number",
    b'{"image": "a.jpg", "query": "q", "id": true}': "id is True",
    b'{"image": "a\xff.jpg", "query": "q"}': "not JSON",
}


def test_a_bad_line_is_set_aside_with_its_place_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = b'{"image": "a.jpg", "query": "q"}'
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n".join([good, *BAD_LINES, b'{"image": "z.jpg", "query": "q"}']))

    first, *failures, last = expand_requests([str(path)], [])

    assert isinstance(first, Request)
    assert isinstance(last, Request)
    assert len(failures) == len(BAD_LINES)
    for number, (words, failure) in enumerate(zip(BAD_LINES.values(), failures, strict=True), start=2):
        assert isinstance(failure, Failure)
        assert failure.id == f"{path}:{number}"
        assert failure.error.startswith(f"{path}:{number}: ")
        assert words in failure.error
        assert len(failure.error) < 300 + len(str(path))


def test_bad_cells_of_a_csv_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(b'image,query\na.jpg,q\nb.jpg\nc.jpg,x,y\nd\xff.jpg,q\n\n"e.jpg"x,q\n,q\nz.jpg,"two, words"\n')
    items = list(expand_requests([str(path)], []))
    places = [
        (item.id.rpartition(":")[2], item.error.partition(": ")[2]) for item in items if isinstance(item, Failure)
    ]
    assert places == [
        ("3", "no query, found image"),
        ("4", "3 cells, but 2 columns; quote cells that hold commas"),
        ("5", "the name of the picture is not valid UTF-8"),
        ("7", """not CSV (',' expected after '"')"""),
        ("8", "no image, found query"),
    ]
    assert [item.query for item in items if isinstance(item, Request)] == ["q", "two, words"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", b"picture,query\na.jpg,q\n", "no column 'image', found picture, query"),
        ("m.csv", b"image,qu\xe4ry\na.jpg,q\n", "the names of the columns are not UTF-8"),
        ("m.csv", b"", "no column 'image', found nothing"),
        ("m.parquet", b"PAR1 nothing", "not a readable Parquet file"),
        ("m.parquet", b"", "not a readable Parquet file"),
    ],
)
def test_a_manifest_that_is_none_is_refused_at_once(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(GensegError, match=words) as caught:
        expand_requests([str(path)], ["it"])
    assert caught.value.message.startswith(str(path))


def test_parquet_may_hold_the_pictures_themselves(tmp_path: Path) -> None:
    """As plain bytes, and as the {bytes, path} of the `datasets` library."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"\x89PNG1", "path": "x.png"}, {"bytes": None, "path": "y.png"}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": pa.array(rows, kind), "query": ["q", "q", "q"]}), tmp_path / "m.parquet")
    first, second, third = expand_requests([str(tmp_path / "m.parquet")], [])
    assert isinstance(first, Request)
    assert first.image == b"\x89PNG1"
    assert isinstance(second, Request)
    assert second.image == str(tmp_path / "y.png")
    assert isinstance(third, Failure)

    pq.write_table(pa.table({"image": [b"\x89PNG1"], "query": ["q"]}), tmp_path / "m.parquet")
    assert [item.id for item in expand_requests([str(tmp_path / "m.parquet")], [])] == [first.id]


def test_a_row_of_many_byte_characters_is_shown_whole() -> None:
    (only,) = expand_requests(["-"], ["x"], stdin=io.BytesIO(json.dumps("犬" * 60, ensure_ascii=False).encode()))
    assert isinstance(only, Failure)
    assert only.error.endswith(f"found '{'犬' * 59}…")


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "x" * 300 + ".jsonl", "x" * 300, "photos/" + "y/" * 3000])
def test_names_that_no_file_system_takes_are_not_there(photos: Path, name: str) -> None:
    with pytest.raises(GensegError, match=r"no such file or folder"):
        expand_requests([name], ["it"])


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
def test_a_manifest_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    """The start of a process's memory: a regular file by its kind, of which every read fails."""
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("no /proc here")
    (tmp_path / name).symlink_to(memory)
    with pytest.raises(GensegError, match=rf"{name}: (cannot be read|not a readable Parquet file)") as caught:
        list(expand_requests([str(tmp_path / name)], ["it"]))
    assert "\n" not in caught.value.message


def test_a_folder_that_cannot_be_listed_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("gensegcli.requests.os.scandir", refuse)
    with pytest.raises(GensegError, match=r"photos: cannot be read \(Permission denied\)"):
        expand_requests(["photos"], ["it"])


def test_an_id_belongs_to_the_first_question_that_claims_it() -> None:
    lines = [{"image": f"{name}.jpg", "query": "q", "id": 5} for name in "aba"]
    repeats: list[Request] = []
    stdin = io.BytesIO("\n".join(map(json.dumps, lines)).encode())
    first, second = expand_requests(["-"], [], stdin=stdin, on_repeat=repeats.append)
    assert first == Request("5", "a.jpg", "q")
    assert isinstance(second, Failure)
    assert second.id == "5#2"
    assert "id '5' (request 2, b.jpg) was given to another question before" in second.error
    assert repeats == [first]


def test_one_id_for_several_expressions_is_refused() -> None:
    (only,) = expand_requests(["-"], ["x", "y"], stdin=io.BytesIO(b'{"image": "a.jpg", "id": "n"}'))
    assert isinstance(only, Failure)
    assert "one id (n) for 2 expressions" in only.error


def test_streams_are_read_no_further_than_needed() -> None:
    """Ten of an endless standard input: a program upstream may still be writing."""

    class Endless(io.RawIOBase):
        lines = 0

        def readline(self, _size: int | None = -1, /) -> bytes:
            self.lines += 1
            return b'{"image": "%d.jpg", "query": "q"}\n' % self.lines

    endless = Endless()
    found = list(itertools.islice(expand_requests(["-"], [], stdin=endless), 10))  # ty: ignore[invalid-argument-type]
    assert len(found) == 10
    assert endless.lines == 10


def test_a_file_name_that_is_no_utf8_fails_alone(photos: Path) -> None:
    try:
        (Path(os.fsencode(photos / "photos").decode()) / os.fsdecode(b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    items = list(expand_requests(["photos"], ["it"]))
    assert [type(item) for item in items] == [Request, Request, Failure]
    json.dumps(items[2].error).encode()
    assert "not valid UTF-8" in items[2].error  # ty: ignore[unresolved-attribute]


# ---------------------------------------------------------------- what is left out


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as it comes from a phone: pictures, and much beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gensegcli.images.heif_ready", lambda: False)
    for name in (
        "IMG_1.JPG",
        "IMG_3.HEIC",
        "page.pdf",
        "noext",
        "b/c/deep.png",
        "b/last.png",
        "a/first.png",
        ".hidden",
    ):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


def test_what_a_folder_holds_beside_pictures_is_counted(album: Path) -> None:
    left_out = LeftOut()
    found = asked(expand_requests(["album"], ["it"], left_out=left_out))
    assert [name for name, _ in found] == [picture("album", "IMG_1.JPG")]
    assert str(left_out) == "1 HEIC, 1 PDF, 1 without ending, 2 folders"
    assert left_out.cure == "pip install pillow-heif reads HEIC; --recursive goes into folders"

    left_out = LeftOut()
    assert len(asked(expand_requests(["album/*"], ["it"], left_out=left_out))) == 1
    assert str(left_out) == "1 HEIC, 1 PDF, 1 without ending, 2 folders"
    (album / "gone.jpg").symlink_to("nowhere.jpg")
    left_out = LeftOut()
    list(expand_requests(["album"], ["it"], left_out=left_out))
    assert "1 broken link" in str(left_out)


def test_a_folder_without_pictures_says_what_is_in_it(album: Path) -> None:
    (album / "IMG_1.JPG").unlink()
    with pytest.raises(
        GensegError, match=r"no pictures directly in this folder \(1 HEIC, 1 PDF.* left out\)"
    ) as caught:
        expand_requests(["album"], ["it"])
    assert "--recursive" in caught.value.hint
    assert "pillow-heif" in caught.value.hint


def test_heic_is_a_picture_where_it_can_be_read(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensegcli.images.heif_ready", lambda: True)
    assert len(asked(expand_requests(["album"], ["it"]))) == 2


def test_recursive_takes_folders_of_folders_once_and_in_a_stable_order(album: Path) -> None:
    (album / "b" / "loop").symlink_to(album, target_is_directory=True)
    (album / "z").symlink_to(album / "a", target_is_directory=True)
    left_out = LeftOut()
    found = asked(expand_requests(["album"], ["it"], recursive=True, left_out=left_out))
    assert [Path(str(name)).relative_to("album").as_posix() for name, _ in found] == [
        "IMG_1.JPG",
        "a/first.png",
        "b/last.png",
        "b/c/deep.png",
    ]
    assert str(left_out) == "1 HEIC, 1 PDF, 1 without ending"


# ---------------------------------------------------------------- standard input


PNG = b"\x89PNG\r\n\x1a\n rest \n of it \0"


@pytest.mark.parametrize(
    "content",
    [
        PNG,
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"RIFF\x0a\x0a\0\0WEBPVP8 ",
        b"GIF89a\x40\x01",
        b"P6\n2 2\n255\n............",
        b"\0\0\0\x1cftypheic",
        b"II*\0\x08",
        bytes(range(256)),
    ],
)
def test_a_picture_on_standard_input_is_one_picture(content: bytes) -> None:
    first, second = expand_requests(["-"], ["the cup", "the dog"], stdin=io.BytesIO(content))
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.image, second.image) == (content, content)
    with pytest.raises(GensegError, match="standard input: a picture, and no expression was given"):
        expand_requests(["-"], [], stdin=io.BytesIO(content))


def test_paths_on_standard_input_are_pictures(photos: Path) -> None:
    Path("a b.jpg").touch()
    lines = io.BytesIO("\ufeffphotos/b.jpg\r\n\na b.jpg\nhttps://h/c.jpg\ngone.jpg".encode())
    found = asked(expand_requests(["-"], ["it"], stdin=lines))
    assert [name for name, _ in found] == ["photos/b.jpg", "a b.jpg", "https://h/c.jpg", "gone.jpg"]
    with pytest.raises(GensegError, match="standard input: paths, and no expression was given"):
        expand_requests(["-"], [], stdin=io.BytesIO(b"photos/b.jpg"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello world\nand more\n" * 100, "'hello world': neither a JSON object nor a picture that is there"),
        (b'[{"image": "a.jpg"}]', "a JSON list, expected one object on each line"),
        ('{"image": "a.jpg"}'.encode("utf-16"), "UTF-16, expected UTF-8"),
    ],
)
def test_anything_else_on_standard_input_is_one_line(photos: Path, content: bytes, words: str) -> None:
    with pytest.raises(GensegError, match=words) as caught:
        expand_requests(["-"], ["it"], stdin=io.BytesIO(content))
    assert caught.value.hint


def test_rows_on_standard_input_keep_their_line_numbers() -> None:
    lines = b'\xef\xbb\xbf\n\n{"image": "a.jpg", "query": "q"}\nnonsense\n'
    first, second = expand_requests(["-"], [], stdin=io.BytesIO(lines))
    assert isinstance(first, Request)
    assert isinstance(second, Failure)
    assert second.id == "-:4"


def test_nothing_on_standard_input_asks_nothing() -> None:
    assert list(expand_requests(["-"], ["it"], stdin=io.BytesIO(b""))) == []


# ---------------------------------------------------------------- manifests that people write


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl.gz", "pairs.xlsx", "list.txt"])
def test_what_is_no_manifest_is_named_as_the_slip_it_is(photos: Path, name: str) -> None:
    Path(name).write_text('[{"image": "a.jpg", "query": "q"}]')
    with pytest.raises(GensegError, match=r"manifests are \.jsonl, \.ndjson, \.csv, \.tsv, \.parquet") as caught:
        expand_requests([name], [])
    assert caught.value.hint


def test_cells_of_pictures_and_ids_are_stripped_and_semicolons_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    for separator in ",;":
        path.write_text(f"\ufeffimage{separator} query {separator}id\n a.jpg {separator}the dog{separator} 785 \n")
        (only,) = expand_requests([str(path)], [])
        assert isinstance(only, Request)
        assert (only.image, only.query, only.id) == (str(tmp_path / "a.jpg"), "the dog", "785")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"image,query,image\na.jpg,q,b.jpg\n", "the column 'image' stands twice"),
        ("image,query\na.jpg,q\n".encode("utf-16"), "UTF-16, expected UTF-8"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(GensegError, match=words):
        list(expand_requests([str(path)], []))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "a.jpg", "query": "x", "query": "y"}', "the key 'query' stands twice in one object"),
        ('{"image": "a.jpg", "query": "x", "id": NaN}', "id is nan, expected a text or a whole number"),
        ('{"image": "a.jpg", "query": "x", "id": 1.5}', "id is 1.5"),
        ('{"image": "a.jpg", "query": "x", "a": ' + "[" * 100_000, "nest too deeply"),
    ],
)
def test_rows_that_cannot_be_meant_are_named(line: str, words: str) -> None:
    good = '{"image": "b.jpg", "query": "a\u2028b", "unused": NaN, "id": 785.0}'
    first, second = expand_requests(["-"], [], stdin=io.BytesIO(f"{line}\n{good}\n".encode()))
    assert isinstance(first, Failure)
    assert words in first.error
    assert isinstance(second, Request), "a NaN that nobody needs, a line separator inside a text"
    assert second.id == "785"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([[b"a"], None]),
        pa.array([{"bytes": 3, "path": None}, None]),
        pa.array([10**18, 1], pa.timestamp("us")),
        pa.array([{"x": 1.5}, {"x": None}]),
        pa.array([b"\xff", b"a"], pa.binary()).cast(pa.large_binary()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([None, None]),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("name", ["image", "query", "id"])
def test_columns_of_odd_types_are_lines_and_no_tracebacks(tmp_path: Path, name: str, column: pa.Array) -> None:
    columns = {"image": pa.array(["a.jpg", "b.jpg"]), "query": pa.array(["q", "q"]), "id": pa.array(["1", "2"])}
    pq.write_table(pa.table({**columns, name: column}), tmp_path / "m.parquet")
    try:
        found = list(expand_requests([str(tmp_path / "m.parquet")], ["common"]))
    except GensegError as error:
        assert "\n" not in error.message  # noqa: PT017 (either is right)
    else:
        assert all(isinstance(item, Request | Failure) for item in found)
        assert not any("\n" in item.error for item in found if isinstance(item, Failure))


@pytest.mark.parametrize("query", [["a", "b"], None, 3, b"x"])
def test_an_expression_that_is_no_text_is_told(query: object) -> None:
    with pytest.raises(GensegError, match=f"the expression is {type(query).__name__}, expected a text"):
        checked_query(query)  # ty: ignore[invalid-argument-type]
