from __future__ import annotations

import io
import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gensegcli.errors import GensegError
from gensegcli.files.text import (
    decode,
    excerpt,
    invalid,
    parse_json,
    parse_setting,
    parse_toml,
    read_json,
    read_json_object,
    read_jsonl,
    read_names,
    read_objects,
    read_text,
)

BOM = b"\xef\xbb\xbf"


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(GensegError) as caught:
        call(*arguments, **options)
    return caught.value.message


class TestJson:
    def test_a_byte_order_mark_is_no_part_of_the_value(self, tmp_path):
        (tmp_path / "a.json").write_bytes(BOM + b'{"a": 1}')
        assert read_json(tmp_path / "a.json") == {"a": 1}

    def test_utf_16_is_named(self):
        assert refusal(parse_json, '{"a": 1}'.encode("utf-16"), "a.json") == "a.json: UTF-16, expected UTF-8"

    def test_nan_and_infinity_are_floats(self):
        value = parse_json(b'{"area": NaN, "score": [Infinity, -Infinity], "id": 1}', "a.json")
        assert math.isnan(value["area"])
        assert value["score"] == [math.inf, -math.inf]
        assert value["id"] == 1

    @pytest.mark.parametrize("opening", ["[", '{"a":', '["]",['])
    @pytest.mark.parametrize("depth", [1100, 100_000])
    def test_depth_is_bounded(self, opening, depth):
        assert refusal(parse_json, opening * depth, "a.json").startswith("a.json: ")
        assert refusal(parse_json, opening * depth + "1" + "]" * depth, "a.json", unique=True).startswith("a.json: ")

    def test_integers_beyond_64_bits_are_floats_and_those_of_thousands_of_digits_too(self):
        assert parse_json(b"[18446744073709551615, NaN]", "a")[0] == 2**64 - 1
        assert parse_json(b"[18446744073709551616, NaN]", "a")[0] == 2.0**64
        assert parse_json("[" + "9" * 5000 + "]", "a") == [math.inf]
        assert parse_json("[" + "9" * 5000 + ", NaN]", "a")[0] == math.inf

    def test_a_lone_surrogate_is_refused(self):
        assert "surrogate" in refusal(parse_json, r'{"text": "\ud800"}', "a.jsonl:1")

    def test_a_key_that_stands_twice(self):
        assert parse_json(b'{"a": 1, "a": 2}', "a") == {"a": 2}
        message = "a: the key 'a' stands twice in one object"
        assert refusal(parse_json, b'{"b": {"a": 1, "a": 2}}', "a", unique=True) == message
        assert refusal(parse_json, b'{"b": {"a": NaN, "a": 2}}', "a", unique=True) == message

    def test_what_is_no_json_says_where(self, tmp_path):
        (tmp_path / "a.json").write_text('{"a": 1,\n oops}')
        assert "line 2" in refusal(read_json, tmp_path / "a.json")
        assert refusal(read_json, tmp_path / "b.json").endswith("b.json: cannot be read (No such file or directory)")

    def test_another_type_than_an_object_is_named(self, tmp_path):
        (tmp_path / "a.json").write_text("[1]")
        assert refusal(read_json_object, tmp_path / "a.json").endswith("a JSON object expected, a list found")

    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: json.dumps(text).encode()))
    def test_no_bytes_raise_anything_else_and_what_is_read_can_be_written(self, content):
        try:
            value = parse_json(content, "a", unique=True)
        except GensegError:
            return
        orjson.dumps(value)


class TestJsonl:
    def test_lines_end_at_newlines_only(self):
        text = '{"a": "x\u2028y\u0085z"}\r\n\n{"a": 2}\n'
        lines = list(read_jsonl(io.BytesIO(BOM + text.encode()), name="-"))
        assert [(line.place, line.value) for line in lines] == [("-:1", {"a": "x\u2028y\x85z"}), ("-:3", {"a": 2})]

    def test_a_damaged_line_leaves_the_others(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
        first, second, third = read_jsonl(tmp_path / "a.jsonl")
        assert (first.value, third.value) == ({"a": 1}, {"a": 3})
        assert second.problem is not None
        assert "a.jsonl:2: not JSON" in second.problem.message

    def test_every_line_an_object(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"a": 1}\n7\n')
        assert refusal(list, read_objects(tmp_path / "a.jsonl")).endswith(
            "a.jsonl:2: a JSON object expected, a number found"
        )


class TestText:
    def test_a_list_of_names(self, tmp_path):
        (tmp_path / "ids").write_bytes(BOM + b"one\r\n\r\n two \nthree\xe2\x80\xa8four")
        assert read_names(tmp_path / "ids") == ["one", "two", "three\u2028four"]

    def test_what_is_not_utf_8_says_where(self, tmp_path):
        (tmp_path / "a").write_bytes(b"fine\nna\xefve")
        assert "not UTF-8 (byte 0xef in line 2)" in refusal(read_text, tmp_path / "a")
        assert refusal(decode, "a".encode("utf-16"), "a") == "a: UTF-16, expected UTF-8"


class TestToml:
    @pytest.mark.parametrize("text", ["a =", "a = " + "9" * 5000, "a = " + "[" * 20_000, "a = 1\na = 2"])
    def test_what_is_no_toml_is_one_error(self, text):
        assert refusal(parse_toml, text, "a.toml").startswith("a.toml: ")

    @pytest.mark.parametrize("text", ["9" * 5000, "[" * 20_000, "1\nother = 2", "1\n[table]\na = 3"])
    def test_what_is_no_value_is_a_text(self, text):
        assert parse_setting(text) == text


def test_what_pydantic_finds_is_one_line():
    class Form(BaseModel):
        sizes: list[int]

    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"sizes": [1, "x"]})
    message = invalid(caught.value, "a.toml").message
    assert message.startswith("a.toml: sizes.1: input should be a valid integer")
    assert message.endswith("'x' found")


def test_an_excerpt_is_short_whatever_the_value():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert excerpt(deep) == "an object"
    assert excerpt(10**5000) == "a number"
    assert excerpt("x" * 100, 10) == "'xxxxxxxxx…"
