"""Picture files without what stands beside the picture, so that a decoder's time and memory depend on the picture alone.

Decoders read metadata that nobody asked for, and some read it in quadratic time or as many times over as a file says.
What is left out: profiles, comments, previews, texts, further frames. What is kept: the picture, its transparency, and
its orientation, written anew as the one tag that it is.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import BinaryIO

import numpy as np

MAX_PARTS = 500_000
"""Segments, chunks or blocks of a file: what the largest pictures have is a tenth of it."""

MAX_FILE = 512 << 20
"""Bytes of a file that is read as a whole."""

MAX_SCANNED = 3_000_000_000
"""Pixels of a JPEG times its scans: 30 scans of 100 megapixels. Each scan of a progressive picture goes over all of it."""

MAX_NUMBERS = 16 << 20
"""Bytes of numbers in the tags of a TIFF: positions of strips and the like, which become Python objects."""

_EXIF = 1 << 20
"""Bytes of EXIF data that are looked at: the orientation stands at their beginning."""


class BloatedError(ValueError):
    """The file would take far more time or memory than its picture is worth."""


def lean(stream: BinaryIO, *, frames: bool = False) -> BinaryIO:
    """The file for a decoder: as it is, or a copy in memory that holds the picture and its orientation.

    A file that is damaged stays damaged in the same place: the decoder says what is wrong with it.

    Args:
        stream: at its beginning.
        frames: leave further pictures in, so that they can be counted.

    Raises:
        BloatedError: it consists of too many parts, scans or tags.
    """
    start = stream.read(12)
    stream.seek(0)
    if start.startswith(b"\xff\xd8"):
        return _jpeg(stream, frames=frames)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(stream, frames=frames)
    if start.startswith((b"GIF87a", b"GIF89a")):
        return stream if frames else _gif(stream)
    if start[:4] in _TIFF:
        _check_tags(stream, 0)
    elif start[4:8] == b"ftyp":
        _check_exif_within(stream)
    stream.seek(0)
    return stream


def orientation_in(exif: bytes) -> int:
    """The orientation (1 to 8) that EXIF data states; 1 where it states none."""
    exif = exif[:_EXIF].removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    found = 1
    try:
        if order is not None:
            (place,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, place)
            for entry in range(place + 2, min(place + 2 + 12 * count, len(exif) - 11), 12):
                tag, kind, number = struct.unpack_from(f"{order}HHI", exif, entry)
                if tag == 0x0112 and kind in _WHOLE and number == 1:
                    (found,) = struct.unpack_from(f"{order}{_WHOLE[kind]}", exif, entry + 8)
    except struct.error:  # cut short
        return 1
    return found if 1 <= found <= 8 else 1


def exif_of(orientation: int) -> bytes:
    """EXIF data that states an orientation and nothing else."""
    return b"Exif\0\0MM\0\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


_WHOLE = {3: "H", 4: "I"}
"""Types of a tag that holds a whole number."""


def _in_xmp(text: bytes) -> int:
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', text[:_EXIF])
    return int(found.group(1)) if found else 1


class _Parts:
    """A file in memory, and which of its parts are kept."""

    def __init__(self, stream: BinaryIO) -> None:
        self.data = stream.read(MAX_FILE + 1)
        if len(self.data) > MAX_FILE:
            raise BloatedError(f"larger than {MAX_FILE >> 20} MB")
        self.kept: list[tuple[int, int]] = []
        self.seen = 0

    def count(self) -> None:
        self.seen += 1
        if self.seen > MAX_PARTS:
            raise BloatedError(f"made of more than {MAX_PARTS:,} parts")

    def keep(self, start: int, end: int) -> None:
        if self.kept and self.kept[-1][1] == start:
            start = self.kept.pop()[0]
        self.kept.append((start, min(end, len(self.data))))

    def file(self, new: bytes = b"", *, after: int = 0) -> BinaryIO:
        """The parts that are kept, with something new after so many of them."""
        parts: list[bytes | memoryview] = [memoryview(self.data)[start:end] for start, end in self.kept]
        parts.insert(after, new)
        return io.BytesIO(b"".join(parts))


# ---------------------------------------------------------------- JPEG

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_NO_RESTART = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_START, _END, _SCAN, _TABLES_OF_CODES = 0xD8, 0xD9, 0xDA, {0xC4, 0xC8, 0xCC}


def _jpeg(stream: BinaryIO, *, frames: bool) -> BinaryIO:
    file = _Parts(stream)
    data, place, pixels = file.data, 2, 0
    exif, turned, heads = bytearray(), 1, set()
    file.kept.append((0, 2))
    while found := _MARKER.search(data, place):
        file.count()
        start, marker = found.start(), data[found.end() - 1]
        place = found.end()
        if marker == _START or 0xD0 <= marker < _START:
            continue
        if marker < 0xC0 or marker in {_END, _SCAN}:
            _check_scans(file, start, pixels)
            file.keep(start, len(data))
            break
        place += max(int.from_bytes(data[place : place + 2]), 2)
        head = data[found.end() + 2 : found.end() + 7]
        if marker < 0xE0:
            if marker < 0xD0 and marker not in _TABLES_OF_CODES and len(head) == 5:
                size = data[found.end() + 3 : found.end() + 7]
                pixels = max(pixels, max(int.from_bytes(size[:2]), 1) * int.from_bytes(size[2:]))
            file.keep(start, place)
        elif head.startswith((b"JFIF", b"Adobe", b"MPF\0" if frames else b"JFIF")) and (marker, head) not in heads:
            heads.add((marker, head))
            file.keep(start, place)
        elif marker == 0xE1 and head == b"Exif\0":
            exif += data[found.end() + 8 : place] if len(exif) < _EXIF else b""
        elif marker == 0xE1 and turned == 1:
            turned = _in_xmp(data[found.end() : place])
    turned = orientation_in(bytes(exif)) if exif else turned
    about = exif_of(turned)
    return file.file(b"\xff\xe1" + struct.pack(">H", len(about) + 2) + about if turned != 1 else b"", after=1)


def _check_scans(file: _Parts, place: int, pixels: int) -> None:
    scans = 0
    while found := _NO_RESTART.search(file.data, place):
        file.count()
        place, marker = found.end(), file.data[found.end() - 1]
        if marker == _END:
            return
        scans += marker == _SCAN
        if scans * pixels > MAX_SCANNED:
            raise BloatedError(f"more than {scans - 1} scans over {pixels / 1e6:.0f} megapixels")
        place += max(int.from_bytes(file.data[place : place + 2]), 2)


# ---------------------------------------------------------------- PNG

_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
_FRAME_CHUNKS = frozenset({b"acTL", b"fcTL", b"fdAT"})


def _png(stream: BinaryIO, *, frames: bool) -> BinaryIO:
    file = _Parts(stream)
    wanted = _CHUNKS | _FRAME_CHUNKS if frames else _CHUNKS
    data, place = file.data, 33
    exif, turned = b"", 1
    file.kept.append((0, min(place, len(data))))  # the signature, and the chunk that has to be the first
    while place < len(data):
        file.count()
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4])
        if not kind.isalpha():  # damaged, and the decoder says so
            file.kept.append((place, len(data)))
            break
        content = data[place + 8 : min(end - 4, place + 8 + _EXIF)] if kind in {b"eXIf", b"iTXt"} else b""
        if kind in wanted:
            # Not joined with the first part: between the two stands what is new.
            file.keep(place, end) if len(file.kept) > 1 else file.kept.append((place, min(end, len(data))))
        elif kind == b"eXIf":
            exif = exif or content
        elif kind == b"iTXt" and turned == 1:
            turned = _in_xmp(content)
        place = end
        if kind == b"IEND":
            break
    turned = orientation_in(exif) if exif else turned
    return file.file(_chunk(b"eXIf", exif_of(turned)[6:]) if turned != 1 else b"", after=1)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# ---------------------------------------------------------------- GIF


def _gif(stream: BinaryIO) -> BinaryIO:
    """The first picture alone: comments, programs' own blocks, and what comes after it, are left out."""
    file = _Parts(stream)
    data = file.data
    place = 13 + _colours(data, 10)
    file.keep(0, place)
    control: tuple[int, int] | None = None
    while data[place : place + 1] == b"!":
        end = _blocks_end(file, place + 2)
        if data[place + 1 : place + 2] == b"\xf9":
            control = place, end
        place = end
    if control:
        file.keep(*control)
    if data[place : place + 1] == b",":
        file.keep(place, _blocks_end(file, place + 11 + _colours(data, place + 9)))
    else:  # damaged, and the decoder says so
        file.keep(place, len(data))
    return file.file(b";", after=len(file.kept))


def _colours(data: bytes, place: int) -> int:
    """Bytes of the table of colours that a byte announces."""
    flags = data[place] if place < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(file: _Parts, place: int) -> int:
    while place < len(file.data) and (length := file.data[place]):
        file.count()
        place += 1 + length
    return place + 1


# ---------------------------------------------------------------- TIFF, and EXIF data within other files

_TIFF = frozenset({b"II\x2a\0", b"MM\0\x2a", b"II\0\x2a", b"MM\x2a\0", b"II\x2b\0", b"MM\0\x2b"})
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type."""
_BYTES = frozenset({1, 2, 7})
"""Types of which the decoder makes one object, not one for each value."""
_LENGTHS = frozenset({279, 325})
"""Tags that say how long strips and tiles are."""


def _check_tags(stream: BinaryIO, base: int) -> None:
    """Refuse tags that refer to the same bytes again and again, each of which a decoder would copy.

    Args:
        stream: the file.
        base: where in it the TIFF begins.
    """
    size = stream.seek(0, io.SEEK_END) - base
    stream.seek(base)
    start = stream.read(16)
    order, big = "<" if start[:1] == b"I" else ">", 0x2B in start[2:4]
    try:
        (place,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", start, 8 if big else 4)
        stream.seek(base + min(place, size))
        (count,) = struct.unpack(f"{order}Q" if big else f"{order}H", stream.read(8 if big else 2))
        if count > 0xFFFF:
            raise BloatedError(f"{count:,} tags")
        form = f"{order}HHQQ" if big else f"{order}HHII"
        tags = list(struct.iter_unpack(form, _whole(stream.read(count * struct.calcsize(form)), struct.calcsize(form))))
    except struct.error:  # cut short
        return
    lengths = [(_SIZES.get(kind, 0) * number, kind) for _, kind, number, _ in tags]
    numbers = sum(length for length, kind in lengths if kind not in _BYTES and length <= size)
    if numbers > MAX_NUMBERS:
        raise BloatedError(f"{numbers / 1e6:.0f} MB of numbers in its tags")
    if sum(length for length, kind in lengths if kind in _BYTES and length <= size) > size:
        raise BloatedError("tags that refer to the same bytes many times over")
    for tag, kind, number, where in tags:
        if tag in _LENGTHS and kind in {3, 4, 16} and _SIZES[kind] * number > (8 if big else 4):
            stream.seek(base + min(where, size))
            kind_of = np.dtype({3: "u2", 4: "u4", 16: "u8"}[kind]).newbyteorder(order)
            raw = stream.read(min(_SIZES[kind] * number, size))
            read = np.frombuffer(_whole(raw, kind_of.itemsize), kind_of)
            # Some sound files state too much, but not for thousands of strips.
            if float(np.minimum(read, size).sum(dtype=np.float64)) > 16 * size:
                raise BloatedError("strips that refer to the same bytes many times over")


def _whole(raw: bytes, size: int) -> bytes:
    return raw[: len(raw) // size * size]


def _check_exif_within(stream: BinaryIO) -> None:
    """The same for EXIF data wherever it stands in a file of boxes, whose decoder reads it before anybody asks."""
    data = stream.read(MAX_FILE)
    for number, found in enumerate(re.finditer(rb"II\x2a\x00|MM\x00\x2a", data)):
        if number == 1000:
            raise BloatedError("EXIF data a thousand times over")
        _check_tags(stream, found.start())
