"""The header of a GGUF file, read with every count bounded before it is believed. No arrays here.

Format (versions 2 and 3, little endian): magic `GGUF`, u32 version, u64 number of tensors, u64
number of metadata keys; per key a string, a u32 type and a value; per tensor a string, u32 number
of dimensions, u64 dimensions (fastest first), u32 ggml type, u64 offset from the data's begin. Data
begins at the next multiple of the alignment. A string is a u64 length and UTF-8. An array is a u32
element type, a u64 count and its elements.

Reading takes time and memory in proportion to the header, which is never larger than the file:
nothing is allocated for a count or length that the rest of the file could not fill.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from h2q.core.errors import H2QError, shown
from h2q.core.ggml_types import GGML_TYPES, GGMLType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 16
MAX_HEADER_BYTES = 512 << 20  # vocabularies and merges of a few MiB are what real headers hold
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_KEY_BYTES = (1 << 16) - 1  # the limit of the format
MAX_NAME_BYTES = 127  # ggml itself allows 63
MAX_STRING_BYTES = 64 << 20
MAX_ARRAY = 1 << 23  # twice the largest vocabulary: merges
MAX_RANK = 4
MAX_ELEMENTS = 1 << 48
BUFFER = 1 << 20

UINT32, STRING, ARRAY, BOOL = 4, 8, 9, 7
NUMBERS = {  # metadata type: struct code
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    UINT32: "I",
    5: "i",
    6: "f",
    BOOL: "B",
    10: "Q",
    11: "q",
    12: "d",
}
SMALLEST_KEY = 8 + 1 + 4 + 1  # bytes: a key of one letter with a value of one byte
SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8

Items = Sequence[int] | Sequence[float] | Sequence[bool] | Sequence[str]


@dataclass(frozen=True)
class GGUFArray:
    """An array of metadata: elements of one type, `str`, `bool`, `int` or `float`."""

    kind: type
    items: Items


Value = bool | int | float | str | GGUFArray


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies: `shape` fastest dimension first, `begin` and `end` from the file's
    start.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    begin: int
    end: int


@dataclass(frozen=True)
class GGUFHeader:
    """What the file says of itself; tensors in file order of their data."""

    version: int
    alignment: int
    values: Mapping[str, Value]
    tensors: Mapping[str, GGUFTensor]


def read_gguf_header(path: Path, error: type[H2QError]) -> GGUFHeader:
    """Raises `error` on anything but a whole, sound file of version 2 or 3, little endian."""
    try:
        size = path.stat().st_size
        with path.open("rb", buffering=BUFFER) as file:
            return parse_gguf_header(file, size, path.name, error)
    except OSError as problem:
        raise error(f"The file cannot be read: {problem.strerror}.", where=path.name) from problem


def parse_gguf_header(file: BinaryIO, size: int, where: str, error: type[H2QError]) -> GGUFHeader:
    """The header of an opened file of `size` bytes, which messages call `where`."""
    return _Parser(file, size, where, error).header()


class _Parser:
    def __init__(self, file: BinaryIO, size: int, where: str, error: type[H2QError]) -> None:
        self._file, self._size, self._where, self._error = file, size, where, error
        self._at = 0

    def _fail(self, what: str) -> H2QError:
        fix = "Fetch the file again; it is damaged or incomplete."
        return self._error(what, where=self._where, fix=fix)

    def _refuse(self, what: str, fix: str) -> H2QError:
        return self._error(what, where=self._where, fix=fix)

    def header(self) -> GGUFHeader:
        if self._size < 4 or self._take(4) != MAGIC:
            raise self._refuse("This is not a GGUF file.", "Its first four bytes are not `GGUF`.")
        version = self._number("I")
        if version not in VERSIONS:
            if version and not version & 0xFFFF:
                raise self._refuse(
                    "The file is big endian; this version reads little endian files.",
                    "Convert the model again on the usual byte order.",
                )
            raise self._refuse(
                f"The GGUF version {version} is not known to this version.",
                "Versions 2 and 3 are; convert the model again with current tools.",
            )
        tensor_count = self._count("tensors", MAX_TENSORS, SMALLEST_TENSOR)
        key_count = self._count("metadata keys", MAX_KEYS, SMALLEST_KEY)
        values: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._string("a metadata key", MAX_KEY_BYTES)
            if not key:
                raise self._fail("A metadata key is empty.")
            if key in values:
                raise self._fail(f"The metadata key {shown(key)} appears twice.")
            kind = self._number("I")
            if key == ALIGNMENT_KEY and kind != UINT32:
                raise self._fail("The alignment is not of type UINT32.")
            values[key] = self._value(kind, key)
        alignment = values.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not _sound_alignment(alignment):
            raise self._fail(
                f"The alignment {alignment} is not a power of two from 8 to {MAX_ALIGNMENT:,}."
            )
        rows = [self._tensor() for _ in range(tensor_count)]
        tensors = self._placed(rows, alignment)
        return GGUFHeader(version, alignment, values, tensors)

    def _take(self, count: int) -> bytes:
        """The next `count` bytes; refused before reading when the file or the header's limit ends
        earlier.
        """
        if count > self._size - self._at:
            raise self._fail("The file ends in the middle of its header.")
        self._at += count
        if self._at > MAX_HEADER_BYTES:
            raise self._fail(f"The header is larger than {MAX_HEADER_BYTES >> 20} MiB.")
        data = self._file.read(count)
        if len(data) != count:
            raise self._fail("The file ends in the middle of its header.")
        return data

    def _number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]
        return value

    def _count(self, what: str, limit: int, smallest: int) -> int:
        """A u64 count of entries that each take at least `smallest` bytes of the file."""
        count = int.from_bytes(self._take(8), "little")
        if count > limit:
            raise self._fail(f"The file claims {count:,} {what}; the limit is {limit:,}.")
        if count * smallest > self._size - self._at:
            raise self._fail(f"The file is too short for the {count:,} {what} it claims.")
        return count

    def _string(self, what: str, limit: int) -> str:
        length = int.from_bytes(self._take(8), "little")
        if length > limit:
            raise self._fail(f"{capital(what)} claims {length:,} bytes; the limit is {limit:,}.")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as problem:
            raise self._fail(f"{capital(what)} is not UTF-8.") from problem

    def _value(self, kind: int, key: str) -> Value:
        if kind == STRING:
            return self._string(f"the value of {shown(key)}", MAX_STRING_BYTES)
        if kind == ARRAY:
            return self._array(key)
        if kind not in NUMBERS:
            raise self._fail(f"The value of {shown(key)} is of the unknown type {kind}.")
        value = self._number(NUMBERS[kind])
        if kind == BOOL:
            if value > 1:
                raise self._fail(f"The value of {shown(key)} is neither true nor false.")
            return bool(value)
        return value

    def _array(self, key: str) -> GGUFArray:
        kind = self._number("I")
        if kind == ARRAY:
            raise self._fail(f"The value of {shown(key)} is an array of arrays.")
        if kind != STRING and kind not in NUMBERS:
            raise self._fail(f"The elements of {shown(key)} are of the unknown type {kind}.")
        smallest = 8 if kind == STRING else struct.calcsize(NUMBERS[kind])
        count = self._count(f"elements of {shown(key)}", MAX_ARRAY, smallest)
        if kind == STRING:
            what = f"an element of {shown(key)}"
            return GGUFArray(str, [self._string(what, MAX_STRING_BYTES) for _ in range(count)])
        items = array(NUMBERS[kind])
        items.frombytes(self._take(count * smallest))
        if sys.byteorder == "big":
            items.byteswap()
        if kind == BOOL:
            if any(item > 1 for item in items):
                raise self._fail(f"An element of {shown(key)} is neither true nor false.")
            return GGUFArray(bool, tuple(map(bool, items)))
        return GGUFArray(float if NUMBERS[kind] in "fd" else int, items)

    def _tensor(self) -> tuple[str, tuple[int, ...], GGMLType, int, int]:
        """Name, shape, type, offset from the data's begin, bytes."""
        name = self._string("a tensor name", MAX_NAME_BYTES)
        if not name:
            raise self._fail("A tensor has no name.")
        rank = self._number("I")
        if not 1 <= rank <= MAX_RANK:
            raise self._fail(f"{shown(name)} has {rank:,} dimensions; 1 to {MAX_RANK} are allowed.")
        shape = struct.unpack(f"<{rank}Q", self._take(8 * rank))
        if min(shape) < 1 or max(shape) > MAX_ELEMENTS or math.prod(shape) > MAX_ELEMENTS:
            raise self._fail(f"The shape {shape} of {shown(name)} is not possible.")
        number = self._number("I")
        if number not in GGML_TYPES:
            raise self._fail(f"{shown(name)} is of the unknown ggml type {number}.")
        kind = GGML_TYPES[number]
        if shape[0] % kind.block:
            raise self._fail(
                f"Rows of {shape[0]:,} in {shown(name)} do not split into {kind.name} blocks of "
                f"{kind.block}."
            )
        offset = self._number("Q")
        return name, shape, kind, offset, math.prod(shape) // kind.block * kind.bytes

    def _placed(
        self, rows: list[tuple[str, tuple[int, ...], GGMLType, int, int]], alignment: int
    ) -> dict[str, GGUFTensor]:
        """Tensors in order of their data, which neither overlap nor leave holes nor leave the
        file.
        """
        start = at = _aligned(self._at, alignment)
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset, size in rows:
            if name in tensors:
                raise self._fail(f"The tensor {shown(name)} is there twice.")
            if offset % alignment:
                raise self._fail(f"The data of {shown(name)} is not aligned to {alignment}.")
            if start + offset + size > self._size:
                raise self._fail(f"The data of {shown(name)} lies beyond the end of the file.")
            tensors[name] = GGUFTensor(name, shape, kind, start + offset, start + offset + size)
        ordered = sorted(tensors.values(), key=lambda tensor: tensor.begin)
        for tensor in ordered:
            if tensor.begin < at:
                raise self._fail(f"The data of {shown(tensor.name)} overlaps another tensor's.")
            if tensor.begin > at:
                raise self._fail(f"There is a hole before the data of {shown(tensor.name)}.")
            at = _aligned(tensor.end, alignment)
        if self._size > at:
            raise self._fail(f"{self._size - at:,} bytes follow the last tensor.")
        return {tensor.name: tensor for tensor in ordered}


def capital(text: str) -> str:
    """The text as the begin of a sentence."""
    return text[:1].upper() + text[1:]


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _sound_alignment(value: int) -> bool:
    return 8 <= value <= MAX_ALIGNMENT and value & (value - 1) == 0
