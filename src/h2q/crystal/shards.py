"""Writing safetensors in execution order: data begins on a 64-byte border, every tensor is a
multiple of 64 bytes long.

So every array of a mapped shard can be used in place by the widest vector unit, and the library can
still read it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.specs import PlaneSpec

ALIGNMENT = 64
FLOATS = ALIGNMENT // 4
DTYPES = {"uint8": "U8", "uint16": "BF16", "float32": "F32"}

NamedArray = tuple[str, npt.NDArray[np.generic]]


def plane_arrays(name: str, index: int, plane: Plane) -> list[NamedArray]:
    """The two arrays of a plane, under the names they have in a shard."""
    return [(f"{name}.codes.{index}", plane.codes), (f"{name}.scales.{index}", plane.scales)]


def padded_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """All values in a row, zeros up to the next 64 bytes."""
    values = values.reshape(-1)
    padded = np.zeros(-(-len(values) // FLOATS) * FLOATS, np.float32)
    padded[: len(values)] = values
    return padded


@dataclass(frozen=True)
class Entry:
    """A tensor of a shard, without its data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @classmethod
    def of(cls, name: str, array: npt.NDArray[np.generic]) -> Entry:
        return cls(name, DTYPES[array.dtype.name], array.shape, array.nbytes)


def plane_entries(name: str, index: int, spec: PlaneSpec) -> list[Entry]:
    """The two tensors of a plane that may not exist yet."""
    layout = PanelLayout.of(spec)
    codes, scales = layout.code_shape, layout.scale_count
    return [
        Entry(f"{name}.codes.{index}", "U8", codes, math.prod(codes)),
        Entry(f"{name}.scales.{index}", "BF16", (scales,), 2 * scales),
    ]


def raw_entry(name: str, count: int) -> Entry:
    """The tensor of so many numbers that are stored as they are."""
    padded = -(-count // FLOATS) * FLOATS
    return Entry(name, "F32", (padded,), 4 * padded)


def shard_header(entries: Iterable[Entry]) -> bytes:
    """Length and header of a shard, padded so that data begins on a 64-byte border."""
    table, at = {}, 0
    for entry in entries:
        assert entry.bytes % ALIGNMENT == 0, entry.name
        table[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.bytes],
        }
        at += entry.bytes
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return len(header).to_bytes(8, "little") + header


def write_shard(path: Path, arrays: Iterable[NamedArray]) -> str:
    """Write arrays in the order given, none of them copied when contiguous; the sha256 of the file,
    hex. Raises OSError.
    """
    arrays = list(arrays)
    header = shard_header(Entry.of(name, array) for name, array in arrays)
    digest = hashlib.sha256(header)
    with path.open("wb") as file:
        file.write(header)
        for _, array in arrays:
            data = np.ascontiguousarray(array).data
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
