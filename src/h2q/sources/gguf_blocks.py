"""Blocks of ggml types as float32, by the `gguf` package, a strip of rows at a time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError
from h2q.core.ggml_types import GGML_TYPES, GGMLType
from h2q.core.gguf_header import GGUFTensor
from h2q.sources.source import fault

STRIP = 1 << 22  # weights decoded at a time; bounds what the package allocates besides the result


def require_readable(tensor: GGUFTensor) -> None:
    """Raises SourceError when the package cannot decode the tensor's type."""
    if not decodes(tensor.type):
        known = ", ".join(kind.name for kind in GGML_TYPES.values() if decodes(kind))
        raise SourceError(
            f"The element type {tensor.type.name} is not supported.",
            where=tensor.name,
            fix=f"Supported: {known}.",
        )


@cache
def decodes(kind: GGMLType) -> bool:
    """Whether the package decodes this type: asked by decoding one block of zeros."""
    try:
        decode(np.zeros((1, kind.bytes), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def decode(rows: npt.NDArray[np.uint8], kind: GGMLType) -> npt.NDArray[np.float32]:
    """Bytes (n, blocks * kind.bytes) as weights (n, blocks * kind.block)."""
    from gguf import GGMLQuantizationType  # a quarter of a second that other sources need not pay
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # hostile scales overflow; the values are judged afterwards
        return dequantize(rows, GGMLQuantizationType(kind.number))


def read_weights(path: Path, tensor: GGUFTensor) -> npt.NDArray[np.float32]:
    """A tensor (shape fastest dimension last) from its file. Raises SourceError when the file has
    become shorter, or a value is not finite or beyond LARGEST.
    """
    shape = tensor.shape[::-1]
    weights = np.empty((int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]), np.float32)
    row_bytes = shape[-1] // tensor.type.block * tensor.type.bytes
    step = max(1, STRIP // shape[-1])
    for first in range(0, len(weights), step):
        strip = weights[first : first + step]
        begin = tensor.begin + first * row_bytes
        try:
            stored = np.fromfile(path, np.uint8, len(strip) * row_bytes, offset=begin)
        except OSError as error:
            raise SourceError(
                f"The file cannot be read: {error.strerror}.", where=path.name
            ) from error
        if stored.size != len(strip) * row_bytes:
            raise SourceError("The file has become shorter.", where=path.name)
        strip[:] = decode(stored.reshape(len(strip), row_bytes), tensor.type)
        if found := fault(strip):
            raise SourceError(
                f"The tensor {found}.",
                where=f"{path.name}: {tensor.name}",
                fix="Fetch the file again, or convert the model again.",
            )
    return weights.reshape(shape)
