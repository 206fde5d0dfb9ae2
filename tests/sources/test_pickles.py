"""Pickles of annotations: what the field's files hold is read, whatever could run is not."""

from __future__ import annotations

import os
import pickle
import pickletools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.sources.pickles import read_pickle

if TYPE_CHECKING:
    from pathlib import Path

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=12,
)


@settings(max_examples=40)
@given(plain, st.sampled_from([2, 3, 4, 5]))
def test_plain_containers_come_back(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.p"
    path.write_bytes(pickle.dumps(value, protocol))
    if protocol == 2 and any(name == "GLOBAL" for name in _opcodes(path)):  # bytes, which protocol 2 lacks
        return

    assert read_pickle(path) == value


def test_python_2_strings_are_latin1(tmp_path: Path) -> None:
    """`[{'sent': 'caf\\xe9'}]` as Python 2's cPickle writes it."""
    (tmp_path / "old.p").write_bytes(b"\x80\x02]q\x01}q\x02U\x04sentq\x03U\x04caf\xe9q\x04sa.")

    assert read_pickle(tmp_path / "old.p") == [{"sent": "café"}]


class _Call:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_refused_before_it_does(tmp_path: Path, protocol: int) -> None:
    bait = tmp_path / "ran"
    path = tmp_path / "evil.p"
    path.write_bytes(pickle.dumps([_Call(bait)], protocol))

    with pytest.raises(GensegError, match=r"refused, because it asks for (posix|nt)\.mkdir"):
        read_pickle(path)
    assert not bait.exists()
    pickle.loads(path.read_bytes())  # noqa: S301 -- the bait works: without the restriction the file would be there
    assert bait.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch ran'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch ran'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",  # STACK_GLOBAL
        b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)R.",  # harmless, and still not plain
        b"Pat\n.",  # PERSID
        b"\x80\x04\x8c\x01aQ.",  # BINPERSID
    ],
)
def test_every_way_to_name_something_is_refused(tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.p").write_bytes(text)

    with pytest.raises(GensegError, match="refused"):
        read_pickle(tmp_path / "evil.p")
    assert not (tmp_path / "ran").exists()


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.p"
    path.write_bytes(b"\x80\x04" + noise)
    try:
        read_pickle(path)
    except GensegError:
        return


def test_a_pickle_cut_short_and_one_that_is_not_there(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "mini" / "refcocog" / "refs(umd).p").read_bytes()
    (tmp_path / "refs.p").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(GensegError, match="damaged pickle"):
        read_pickle(tmp_path / "refs.p")
    with pytest.raises(GensegError, match="cannot be read"):
        read_pickle(tmp_path / "none.p")


def _opcodes(path: Path) -> set[str]:
    return {code.name for code, _, _ in pickletools.genops(path.read_bytes())}
