"""Pickles of plain containers, read without the danger: a pickle can call any function, these cannot call one.

The reader knows the part of the format that builds plain values, and nothing of the rest. Python's own unpickler can be
told not to import, but not how much memory a file may take: seven bytes have it allocate gigabytes for a table, and
eighty have it hash a key for longer than anybody waits.
"""

from __future__ import annotations

import ast
import pickle
import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from gensegcli.errors import GensegError
from gensegcli.files.text import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_BYTES = 1 << 28
"""The largest of these files has 60 MB."""

MEMORY_FACTOR, MEMORY_LEAST = 40, 1 << 20
"""Bytes of memory that a byte of the file may take, and what every file may. Annotations take about ten."""

MAX_DEPTH = 64
"""Levels of containers in containers; annotations have five."""

_LONGEST_INTEGER = 255
"""Bytes."""

_SCALARS = (str, bytes, int, float, type(None))


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something other than plain values."""


def read_pickle(path: Path) -> object:
    """The value of a pickle that holds plain containers and nothing else; Python 2 strings are read as latin1.

    Plain are dicts, lists, tuples, sets, strings, bytes, numbers, booleans and None. Keys are scalars, or tuples of such.
    Memory is bounded by the size of the file; a container that stands in several places counts in each of them.

    Raises:
        GensegError: the pickle asks for anything else, or is damaged, or is not there.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GensegError(f"{path}: larger than {MAX_BYTES >> 20} MB, which no annotation file is")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    try:
        value = _Reader(data).read()
        _check_shape(value, most=2 * len(data) + 1000)
        return value
    except _Refused as refused:
        raise GensegError(
            f"{path}: refused, because {refused}; annotations are plain lists, dicts, strings and numbers",
            hint="a pickle that asks for more can run code or fill the memory: "
            "get the file from where the data set is published",
        ) from None
    # What a damaged pickle raises: the stack machine pops what is not there, or makes containers of the wrong things.
    except (pickle.UnpicklingError, IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error) as error:
        raise GensegError(
            f"{path}: a damaged pickle ({str(error)[:200] or type(error).__name__})", hint="get the file again"
        ) from None


def _check_shape(value: object, most: int) -> None:
    """Refuse what is small in memory and endless to walk through: containers within themselves, or shared many times."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [item for item in level if isinstance(item, list | tuple | dict | set | frozenset)]
        if not level:
            return
        most -= sum(map(len, level))
        if most < 0:
            raise _Refused("its containers hold each other, or themselves, again and again")
        level = list(chain.from_iterable(item.values() if isinstance(item, dict) else item for item in level))
    raise _Refused(f"its containers are nested in more than {MAX_DEPTH} levels")


class _Reader:
    """The stack machine of the format, over bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.room = MEMORY_FACTOR * len(data) + MEMORY_LEAST

    def read(self) -> object:
        """The value; what a damaged pickle raises, or `_Refused`."""
        data, operations = self.data, _OPERATIONS
        while True:
            code = data[self.place]
            self.place += 1
            if code == _STOP:
                return self.stack.pop()
            operation = operations.get(code)
            if operation is None:
                raise _Refused(f"it has an instruction that builds no plain value (0x{code:02x})")
            operation(self)

    # ------------------------------------------------------------ the file

    def take(self, count: int) -> bytes:
        end = self.place + count
        if count < 0 or end > len(self.data):
            raise pickle.UnpicklingError(f"{count} bytes announced, {len(self.data) - self.place} left")
        part = self.data[self.place : end]
        self.place = end
        return part

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.place)
        return self.take(end + 1 - self.place)[:-1]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    # ------------------------------------------------------------ memory

    def spend(self, count: int) -> None:
        """Note an estimate of the memory that something takes."""
        self.room -= count
        if self.room < 0:
            raise _Refused(f"it takes more than {MEMORY_FACTOR} times its size in memory")

    def push(self, value: Any, size: int = 32) -> None:
        self.spend(size)
        self.stack.append(value)

    def text(self, raw: bytes, encoding: str) -> None:
        self.push(raw.decode(encoding), 64 + 4 * len(raw))  # one character beyond 16 bits makes all of them four bytes

    def integer(self, text: bytes) -> None:
        if len(text) > _LONGEST_INTEGER:
            raise _Refused(f"it holds an integer of {len(text)} digits")
        self.push(int(text))

    def long(self, count: int) -> None:
        if count > _LONGEST_INTEGER:
            raise _Refused(f"it holds an integer of {count} bytes")
        self.push(int.from_bytes(self.take(count), "little", signed=True), 32 + count)

    def remember(self, index: int) -> None:
        if not 0 <= index <= self.place:
            raise _Refused(f"it numbers its values from {index}, beyond its own size")
        missing = index + 1 - len(self.memo)
        if missing > 0:
            self.spend(8 * missing)
            self.memo.extend([_NOTHING] * missing)
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        value = self.memo[index] if index >= 0 else _NOTHING
        if value is _NOTHING:
            raise KeyError(f"no value of number {index}")
        self.push(value, 8)

    # ------------------------------------------------------------ containers

    def mark(self) -> None:
        self.spend(40)
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def last(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {kind.__name__} expected, {type(self.stack[-1]).__name__} found")
        return self.stack[-1]

    def tuple(self, items: Iterable[Any]) -> None:
        made = tuple(items)
        self.push(made, 48 + 8 * len(made))

    def extend(self, items: list[Any]) -> None:
        self.spend(8 * len(items))
        self.last(list).extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.last(dict)
        self.spend(60 * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value

    def add(self, items: list[Any]) -> None:
        target = self.last(set)
        self.spend(60 * len(items))
        target.update(map(self.key, items))

    @staticmethod
    def key(value: Any) -> Any:
        """The value, if its hash takes no time to speak of: that of tuples in tuples doubles with every level."""
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if not isinstance(part, _SCALARS) or (isinstance(part, int) and part.bit_length() > 63):
                raise _Refused(
                    f"it has a key of type {type(part).__name__}" + (" in a tuple" if part is not value else "")
                )
        return value

    # ------------------------------------------------------------ refusals

    def named(self, module: Any, name: Any) -> NoReturn:
        raise _Refused(f"it asks for {str(module)[:60]}.{str(name)[:60]}")

    def global_(self) -> NoReturn:
        module, name = (self.line().decode("latin1") for _ in range(2))
        self.named(module, name)

    def stack_global(self) -> NoReturn:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.named(module, name)

    def outside(self) -> NoReturn:
        raise _Refused("it refers to something outside the file")


_NOTHING = object()
_STOP = pickle.STOP[0]


def _string(reader: _Reader) -> None:
    """Python 2's `repr` of a string."""
    quoted = reader.line().strip()
    if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    raw = ast.literal_eval(f"b{quoted.decode('ascii')}") if b"\\" in quoted else quoted[1:-1]
    reader.text(raw, "latin1")


def _int(reader: _Reader) -> None:
    text = reader.line()
    if text in (b"00", b"01"):
        reader.push(text == b"01")
    else:
        reader.integer(text)


def _dict(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.push({}, 72)
    reader.update(items)


def _list(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.push(items, 64 + 8 * len(items))


def _frozenset(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.push(frozenset(map(reader.key, items)), 224 + 60 * len(items))


def _tuple_of(count: int) -> Callable[[_Reader], None]:
    def operation(reader: _Reader) -> None:
        items = reader.stack[-count:]
        if len(items) < count:
            raise IndexError("the stack is empty")
        del reader.stack[-count:]
        reader.tuple(items)

    return operation


def _pair(reader: _Reader) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.update([key, value])


def _pop(reader: _Reader) -> None:
    if reader.marks and reader.marks[-1] == len(reader.stack):
        reader.marks.pop()
    else:
        reader.stack.pop()


def _frame(reader: _Reader) -> None:
    if reader.number("<Q") > len(reader.data) - reader.place:
        raise pickle.UnpicklingError("a frame longer than the file")


def _raw(form: str) -> Callable[[_Reader], None]:
    def operation(reader: _Reader) -> None:
        raw = reader.take(reader.number(form))
        reader.push(raw, 40 + len(raw))

    return operation


def _coded(form: str, encoding: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.text(reader.take(reader.number(form)), encoding)


_OPERATIONS: dict[int, Callable[[_Reader], object]] = {
    code[0]: operation
    for code, operation in {
        pickle.PROTO: lambda r: r.take(1),
        pickle.FRAME: _frame,
        # scalars
        pickle.NONE: lambda r: r.push(None, 8),
        pickle.NEWTRUE: lambda r: r.push(True, 8),
        pickle.NEWFALSE: lambda r: r.push(False, 8),
        pickle.INT: _int,
        pickle.LONG: lambda r: r.integer(r.line().removesuffix(b"L")),
        pickle.BININT: lambda r: r.push(r.number("<i")),
        pickle.BININT1: lambda r: r.push(r.number("<B"), 8),
        pickle.BININT2: lambda r: r.push(r.number("<H")),
        pickle.LONG1: lambda r: r.long(r.number("<B")),
        pickle.LONG4: lambda r: r.long(r.number("<I")),
        pickle.FLOAT: lambda r: r.push(float(r.line())),
        pickle.BINFLOAT: lambda r: r.push(r.number(">d")),
        pickle.STRING: _string,
        pickle.SHORT_BINSTRING: _coded("<B", "latin1"),
        pickle.BINSTRING: _coded("<i", "latin1"),
        pickle.UNICODE: lambda r: r.text(r.line(), "raw-unicode-escape"),
        pickle.SHORT_BINUNICODE: _coded("<B", "utf-8"),
        pickle.BINUNICODE: _coded("<I", "utf-8"),
        pickle.BINUNICODE8: _coded("<Q", "utf-8"),
        pickle.SHORT_BINBYTES: _raw("<B"),
        pickle.BINBYTES: _raw("<I"),
        pickle.BINBYTES8: _raw("<Q"),
        # containers
        pickle.MARK: _Reader.mark,
        pickle.EMPTY_LIST: lambda r: r.push([], 64),
        pickle.EMPTY_DICT: lambda r: r.push({}, 72),
        pickle.EMPTY_SET: lambda r: r.push(set(), 224),
        pickle.EMPTY_TUPLE: lambda r: r.push((), 8),
        pickle.LIST: _list,
        pickle.DICT: _dict,
        pickle.FROZENSET: _frozenset,
        pickle.TUPLE: lambda r: r.tuple(r.since_mark()),
        pickle.TUPLE1: _tuple_of(1),
        pickle.TUPLE2: _tuple_of(2),
        pickle.TUPLE3: _tuple_of(3),
        pickle.APPEND: lambda r: r.extend([r.stack.pop()]),
        pickle.APPENDS: lambda r: r.extend(r.since_mark()),
        pickle.SETITEM: _pair,
        pickle.SETITEMS: lambda r: r.update(r.since_mark()),
        pickle.ADDITEMS: lambda r: r.add(r.since_mark()),
        # the stack and the memo
        pickle.POP: _pop,
        pickle.POP_MARK: lambda r: r.since_mark(),
        pickle.DUP: lambda r: r.push(r.stack[-1], 8),
        pickle.PUT: lambda r: r.remember(int(r.line()[:20])),
        pickle.BINPUT: lambda r: r.remember(r.number("<B")),
        pickle.LONG_BINPUT: lambda r: r.remember(r.number("<I")),
        pickle.MEMOIZE: lambda r: r.remember(len(r.memo)),
        pickle.GET: lambda r: r.recall(int(r.line()[:20])),
        pickle.BINGET: lambda r: r.recall(r.number("<B")),
        pickle.LONG_BINGET: lambda r: r.recall(r.number("<I")),
        # what would run code
        pickle.GLOBAL: _Reader.global_,
        pickle.INST: _Reader.global_,
        pickle.STACK_GLOBAL: _Reader.stack_global,
        pickle.PERSID: _Reader.outside,
        pickle.BINPERSID: _Reader.outside,
    }.items()
}
"""What each instruction does, by its code; every other one is refused."""
