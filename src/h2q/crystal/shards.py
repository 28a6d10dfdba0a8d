"""Writing safetensors in execution order: data begins on a 64-byte border, every tensor is a
multiple of 64 bytes long.

So every array of a mapped shard can be used in place by the widest vector unit, and the library can
still read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import Plane

ALIGNMENT = 64
FLOATS = ALIGNMENT // 4
DTYPES = {"uint8": "U8", "uint16": "BF16", "float32": "F32"}

NamedArray = tuple[str, npt.NDArray[np.generic]]


def plane_arrays(name: str, index: int, plane: Plane) -> list[NamedArray]:
    """The two arrays of a plane, under the names they have in a shard."""
    return [(f"{name}.codes.{index}", plane.codes), (f"{name}.scales.{index}", plane.scales)]


def padded_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A vector with zeros up to the next 64 bytes."""
    padded = np.zeros(-(-len(values) // FLOATS) * FLOATS, np.float32)
    padded[: len(values)] = values
    return padded


def write_shard(path: Path, arrays: Iterable[NamedArray]) -> str:
    """Write arrays in the order given, none of them copied when contiguous; the sha256 of the file,
    hex. Raises OSError.
    """
    arrays = list(arrays)
    table, at = {}, 0
    for name, array in arrays:
        assert array.nbytes % ALIGNMENT == 0, name
        table[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (len(header).to_bytes(8, "little"), header):
            digest.update(part)
            file.write(part)
        for _, array in arrays:
            data = np.ascontiguousarray(array).data
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
