"""Pickles of annotations: what the field's files hold is read, whatever could run is not."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.sources.pickles import read_pickle

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=12,
)


@settings(max_examples=40)
@given(plain, st.sampled_from([0, 1, 2, 3, 4, 5]))
def test_plain_containers_come_back(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.p"
    path.write_bytes(pickle.dumps(value, protocol))
    if protocol <= 2 and any(name == "GLOBAL" for name in _opcodes(path)):  # bytes, which protocol 2 lacks
        return

    assert read_pickle(path) == pickle.loads(path.read_bytes()) == value  # noqa: S301 -- written just now


def test_python_2_strings_are_latin1(tmp_path: Path) -> None:
    """`[{'sent': 'caf\\xe9'}]` as Python 2's cPickle writes it."""
    (tmp_path / "old.p").write_bytes(b"\x80\x02]q\x01}q\x02U\x04sentq\x03U\x04caf\xe9q\x04sa.")

    assert read_pickle(tmp_path / "old.p") == [{"sent": "café"}]


SHARED = ["a", "b"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        [SHARED, SHARED, {"x": SHARED}],
        {(480, 640): 1, ("a", None): 2},
        [2**63, -(2**64), 1e300, float("inf"), True, False, None],
        ["quote ' and \" and \\ and \n", "犬\u2028", ""],
        (1, (2, (3, 4, 5, 6), ()), ((),)),
    ],
)
def test_what_python_reads_is_read_the_same(tmp_path: Path, protocol: int, value: object) -> None:
    (tmp_path / "a.p").write_bytes(pickle.dumps(value, protocol))

    assert read_pickle(tmp_path / "a.p") == value


@pytest.mark.parametrize("value", [{1, 2}, frozenset({"a", 3.5}), [set()], b"", b"\x00\xff" * 300, 2**1000])
def test_sets_and_bytes_and_long_integers(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.p").write_bytes(pickle.dumps(value, 4))

    assert read_pickle(tmp_path / "a.p") == value


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


HOSTILE = {
    "a memo of 2^32": b"]r\xff\xff\xff\xff.",
    "a memo of 2^26": b"]r\x00\x00\x00\x04.",
    "a memo by decimal": b"]p999999999999\n.",
    "a memo of many digits": b"]p" + b"9" * 100_000 + b"\n.",
    "a text of 2^60 bytes": b"\x8d" + (1 << 60).to_bytes(8, "little") + b"x.",
    "bytes of 2^40": b"\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    "a bytearray of 2^40": b"\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
    "a string of -1 bytes": b"T\xff\xff\xff\xffx.",
    "a frame of 2^60": b"\x95" + (1 << 60).to_bytes(8, "little") + b"].",
    "an integer of 2 GB": b"\x8b\xff\xff\xff\x7fx.",
    "an integer of 10 MB": b"\x8b" + (10_000_000).to_bytes(4, "little") + b"\x7f" * 10_000_000 + b".",
    "an integer of many digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "3 MB of sets": b"\x8f" * 3_000_000 + b".",
    "3 MB of lists": b"(" + b"]" * 3_000_000 + b"l.",
    "3 MB of marks": b"(" * 3_000_000 + b".",
    "lists in lists": b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "a key that doubles 60 times": b"}K\x01" + b"2\x86" * 60 + b"K\x01s.",
    "a member that doubles 60 times": b"\x8f(K\x01" + b"2\x86" * 60 + b"\x90.",
    "a value that doubles 60 times": b"K\x01" + b"2\x86" * 60 + b".",
    "lists that double 60 times": b"]" + b"q\x00]h\x00ah\x00a" * 60 + b".",
    "a list that holds itself": b"]q\x00h\x00a.",
    "a name outside that doubles": b"K\x01" + b"2\x86" * 60 + b"Q.",
    "keys of one hash": b"}(" + b"".join(
        b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little", signed=True) + b"N" for n in range(5, 100_000)
    ) + b"u.",
}  # fmt: skip

READ_WITHIN = """
import resource, sys, time
from pathlib import Path
from gensegcli.sources.pickles import read_pickle
from gensegcli.errors import GensegError
room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
started = time.process_time()
try:
    read_pickle(Path(sys.argv[1]))
except GensegError as error:
    assert len(str(error)) < 500, len(str(error))
    print(str(error).partition(": ")[2])
assert time.process_time() - started < 20
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as Linux does it")
@pytest.mark.parametrize("name", HOSTILE)
def test_memory_and_time_are_bounded_by_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    """Each is refused within 100 times its size and 20 MB, in a process that may take no more."""
    (tmp_path / "a.p").write_bytes(HOSTILE[name])
    room = 100 * len(HOSTILE[name]) + (20 << 20)
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHIN, str(tmp_path / "a.p"), str(room)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith(("refused, because", "a damaged pickle"))


def _opcodes(path: Path) -> set[str]:
    return {code.name for code, _, _ in pickletools.genops(path.read_bytes())}
