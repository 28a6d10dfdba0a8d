"""The header of a safetensors file, read with every count bounded before it is believed. No arrays
here.

Format: eight bytes little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
then the data, offsets counted from its begin. Tensors neither overlap nor leave holes. Used for
foreign checkpoints and for crystals.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from h2q.core.errors import H2QError, shown
from h2q.core.files import plain_file, read_bounded

MAX_HEADER_BYTES = 100 << 20  # the limit of the reference library
MAX_TENSORS = 1 << 20
MAX_RANK = 8
MAX_NAME = 1024
MAX_JSON_VALUES = 1 << 23  # a header of 2^20 tensors has about as many; all take below 1 GiB
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: `begin` and `end` are byte offsets from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path, error: type[H2QError]) -> dict[str, TensorEntry]:
    """Entries by name, in file order of their data. Raises `error` on anything but a whole, sound
    file.
    """
    with plain_file(path, error) as (file, size):
        return parse_header(file, size, path.name, error)


def parse_header(
    file: BinaryIO, size: int, where: str, error: type[H2QError]
) -> dict[str, TensorEntry]:
    """The header of an opened file of `size` bytes, which messages call `where`."""

    def fail(what: str) -> H2QError:
        return error(what, where=where, fix="Fetch the file again; it is damaged or incomplete.")

    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > MAX_HEADER_BYTES or length < 2 or 8 + length > size:
        raise fail("The file is too short or not a safetensors file.")
    table = parse_json(file.read(length), where, error)
    table.pop("__metadata__", None)
    if len(table) > MAX_TENSORS:
        raise fail("The file claims too many tensors.")
    entries = sorted(
        (_entry(name, row, 8 + length, fail) for name, row in table.items()),
        key=lambda entry: (entry.begin, entry.end),
    )
    at = 8 + length
    for entry in entries:
        if entry.begin != at:
            raise fail(f"The data of {shown(entry.name)} overlaps another tensor or leaves a hole.")
        at = entry.end
    if at != size:
        raise fail(f"The data should be {at:,} bytes long with its header, the file is {size:,}.")
    return {entry.name: entry for entry in entries}


def _entry(name: str, row: Any, start: int, fail: Any) -> TensorEntry:
    if len(name) > MAX_NAME or not isinstance(row, dict):
        raise fail("A tensor entry is malformed.")
    dtype, shape, offsets = row.get("dtype"), row.get("shape"), row.get("data_offsets")
    if set(row) != {"dtype", "shape", "data_offsets"}:
        raise fail(f"The entry of {shown(name)} is malformed.")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise fail(f"The entry of {shown(name)} is malformed or of an unknown type.")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_is_count, shape)):
        raise fail(f"The shape of {shown(name)} is malformed.")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise fail(f"The offsets of {shown(name)} are malformed.")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise fail(f"The size of {shown(name)} does not follow from its shape.")
    return TensorEntry(name, dtype, tuple(shape), start + begin, start + end)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def parse_json(text: bytes, where: str, error: type[H2QError]) -> dict[str, Any]:
    """A JSON object; duplicate keys, other top levels, bad UTF-8, numbers that are not finite, deep
    nesting and more than MAX_JSON_VALUES values are refused with `error`.
    """
    # Every value but the first of a list or object follows one of these; a few bytes of text can
    # become a hundred bytes of objects, so they are counted before anything is made of them.
    if sum(map(text.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise error("The JSON has too many values.", where=where)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(items)
        if len(table) != len(items):
            raise ValueError("a key appears twice")
        return table

    def refuse(_: str) -> float:
        raise ValueError("a number is not finite")

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse(number)

    try:
        table = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_constant=refuse,
            parse_float=finite,
        )
    except (ValueError, RecursionError) as problem:
        raise error(f"The JSON is not valid: {problem}.", where=where) from problem
    if not isinstance(table, dict):
        raise error("The JSON is not an object.", where=where)
    return table


def read_json(path: Path, limit: int, error: type[H2QError]) -> dict[str, Any]:
    """A JSON object from a plain file of at most `limit` bytes."""
    return parse_json(read_bounded(path, limit, error), path.name, error)
