"""Named arrays and facts in a plain safetensors file that proves itself: journals, saved streams.

| part | content |
|---|---|
| header | `__metadata__`: `sha256`, `key`, `name`, `facts` (JSON); then the tensors |
| data | the arrays in the order given, each on a 64-byte border; `.pad.N` (U8) fill the gaps |

`sha256` is that of the whole file with 64 zeros in its own place, so a flipped bit anywhere is
found. Any safetensors reader opens the file; arrays come back as views of the mapped file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.disk import HASHED_BYTES
from h2q.core.errors import CrystalError, UsageError
from h2q.core.safetensors_header import TensorEntry, parse_json, read_header

ALIGNMENT = 64
PAD = ".pad."
ZEROS = "0" * 64
DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
NUMPY = {stored: np.dtype(name) for name, stored in DTYPES.items()}

Array = npt.NDArray[np.generic]
Fact = str | int | float | bool | None


@dataclass(frozen=True)
class Entry:
    """Arrays by name, and what else was worth keeping about them."""

    arrays: dict[str, Array]
    facts: dict[str, Fact]


def write_entry(path: Path, key: str, name: str, entry: Entry) -> None:
    """A file at `path`, written through to the disk. Raises OSError, UsageError for an array that
    has no place in the format.
    """
    if sys.byteorder != "little":
        raise UsageError("Entries are written on little-endian machines only.")
    parts, table = _laid_out(entry.arrays)
    told = {"sha256": ZEROS, "key": key, "name": name, "facts": json.dumps(entry.facts)}
    header = json.dumps({"__metadata__": told, **table}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    blank = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(blank)
    for part in parts:
        digest.update(part)
    with path.open("wb") as file:
        file.write(_filled(blank, digest.hexdigest()))
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def read_entry(path: Path, key: str, name: str, proven: bool = False) -> Entry:
    """What `write_entry` wrote under this key and name; `proven` spares the hashing. Raises
    CrystalError for anything else.
    """
    table = read_header(path, CrystalError)
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CrystalError("The entry cannot be read.", where=path.name) from error
    begin = 8 + int.from_bytes(mapped[:8], "little")
    told = parse_json(mapped[8:begin], path.name, CrystalError).get("__metadata__")
    if not isinstance(told, dict) or told.get("key") != key or told.get("name") != name:
        raise CrystalError("The entry was written under another key or name.", where=path.name)
    facts, digest = told.get("facts"), told.get("sha256")
    if not isinstance(facts, str) or not isinstance(digest, str) or len(digest) != len(ZEROS):
        raise CrystalError("The entry is damaged.", where=path.name)
    if not proven and digest != _hash(mapped, begin, digest):
        raise CrystalError("The checksum is wrong.", where=path.name)
    data = np.frombuffer(mapped, np.uint8)
    arrays = {
        entry.name: _view(data, entry, path.name)
        for entry in table.values()
        if not entry.name.startswith(PAD)
    }
    return Entry(arrays, parse_json(facts.encode(), path.name, CrystalError))


def _laid_out(arrays: Mapping[str, Array]) -> tuple[list[memoryview], dict[str, object]]:
    """Bytes in file order without copying what is contiguous, and the header's rows."""
    parts: list[memoryview] = []
    table: dict[str, object] = {}
    at = 0

    def add(name: str, stored: str, shape: tuple[int, ...], data: memoryview) -> None:
        nonlocal at
        table[name] = {"dtype": stored, "shape": shape, "data_offsets": [at, at + data.nbytes]}
        parts.append(data)
        at += data.nbytes

    for index, (name, array) in enumerate(arrays.items()):
        stored = DTYPES.get(array.dtype.name)
        if stored is None or not array.dtype.isnative or name.startswith((PAD, "__")):
            raise UsageError(f"An array of type {array.dtype} cannot be kept.", where=name)
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        add(name, stored, array.shape, flat.data)
        if at % ALIGNMENT:
            gap = -at % ALIGNMENT
            add(f"{PAD}{index}", "U8", (gap,), memoryview(bytes(gap)))
    return parts, table


def _filled(blank: bytes, digest: str) -> bytes:
    """The header with its checksum in the place of the zeros."""
    place = f'"sha256":"{ZEROS}"'.encode()
    return blank.replace(place, f'"sha256":"{digest}"'.encode(), 1)


def _hash(mapped: mmap.mmap, begin: int, digest: str) -> str:
    place, blank = f'"sha256":"{digest}"'.encode(), f'"sha256":"{ZEROS}"'.encode()
    found = hashlib.sha256(mapped[:begin].replace(place, blank, 1))
    with memoryview(mapped) as data:
        for at in range(begin, len(data), HASHED_BYTES):
            found.update(data[at : at + HASHED_BYTES])
    return found.hexdigest()


def _view(data: npt.NDArray[np.uint8], entry: TensorEntry, where: str) -> Array:
    dtype = NUMPY.get(entry.dtype)
    if dtype is None:
        raise CrystalError(f"The entry holds a tensor of type {entry.dtype}.", where=where)
    return data[entry.begin : entry.end].view(dtype).reshape(entry.shape)
