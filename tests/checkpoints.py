"""Writes Hugging Face folders for tests: safetensors files made of the bytes that a test wants."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from h2q.core.errors import SourceError
from h2q.core.safetensors_header import ITEM_BYTES, read_header

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def floats(cls, values: np.ndarray) -> Stored:
        return cls("F32", values.shape, np.asarray(values, "<f4").tobytes())


def read_stored(path: Path) -> dict[str, Stored]:
    """Every tensor of a file."""
    data = path.read_bytes()
    return {
        name: Stored(entry.dtype, entry.shape, data[entry.begin : entry.end])
        for name, entry in read_header(path, SourceError).items()
    }


def write_stored(path: Path, tensors: dict[str, Stored]) -> None:
    """A file of these tensors, in this order."""
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        assert len(tensor.data) == math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        offsets = [at, at + len(tensor.data)]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
        at += len(tensor.data)
    text = json.dumps(header).encode()
    body = b"".join(tensor.data for tensor in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def edit_config(folder: Path, **changes: object) -> None:
    """Keys of config.json replaced."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def to_float8(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Codes uint8 of the nearest finite values of a 256-entry table."""
    finite = np.flatnonzero(np.isfinite(table))
    order = finite[np.argsort(table[finite], kind="stable")]
    levels = table[order]
    right = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    nearer = np.abs(levels[right - 1] - values) <= np.abs(levels[right] - values)
    return order[right - nearer].astype(np.uint8)


def float8_folder(folder: Path, config: dict[str, Any], dtype: str, table: np.ndarray) -> None:
    """Rewrites a folder's matrices, the embedding excepted, as fp8 with scales as `config` says:
    weight_block_size gives blocks, `rows` one scale per row, neither one per tensor.
    """
    stored: dict[str, Stored] = {}
    for name, tensor in read_stored(folder / WEIGHTS).items():
        if len(tensor.shape) != 2 or "embed" in name:
            stored[name] = tensor
            continue
        rows, cols = tensor.shape
        high, wide = config.get("weight_block_size") or (1 if config.get("rows") else rows, cols)
        values = np.frombuffer(tensor.data, "<u2").astype(np.uint32) << 16
        values = values.view(np.float32).reshape(tensor.shape)
        scales = np.empty((-(-rows // high), -(-cols // wide)), np.float32)
        codes = np.empty(tensor.shape, np.uint8)
        for i, j in np.ndindex(scales.shape):
            block = np.s_[i * high : (i + 1) * high, j * wide : (j + 1) * wide]
            scales[i, j] = np.abs(values[block]).max() / table[np.isfinite(table)].max()
            codes[block] = to_float8(values[block] / scales[i, j], table)
        if scales.size == 1 and not config.get("weight_block_size"):
            scales = scales.reshape(())
        suffix = "_scale_inv" if config.get("weight_block_size") else "_scale"
        stored[name] = Stored(dtype, tensor.shape, codes.tobytes())
        stored[name + suffix] = Stored.floats(scales)
    write_stored(folder / WEIGHTS, stored)
    edit_config(folder, quantization_config=config)
