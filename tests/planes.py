"""Random arrays for the tests of kernels: numbers, coded planes, and copies that begin at odd
addresses.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from h2q import kernels
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, to_bfloat16
from h2q.core.specs import PlaneSpec

NATIVE = [path for path in kernels.available() if path != kernels.NUMPY]
BITS = [(2,), (1,), (2, 1), (2, 2), (2, 1, 1), (1, 1, 1)]

Array = TypeVar("Array", bound=np.ndarray)


def normal(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.standard_normal(shape).astype(np.float32)


def random_plane(draw: np.random.Generator, bits: int, rows: int, cols: int) -> Plane:
    """A plane of any codes whatever."""
    spec = PlaneSpec(bits, rows, cols)
    layout = PanelLayout.of(spec)
    scales = np.zeros(layout.scale_count, np.uint16)
    scales[:rows] = to_bfloat16(np.abs(normal(draw, rows)) / 50)
    codes = draw.integers(0, 256, layout.code_shape).astype(np.uint8)
    return Plane(spec, codes, scales)


def random_stack(
    draw: np.random.Generator, bits: tuple[int, ...], rows: int, cols: int
) -> list[Plane]:
    return [random_plane(draw, b, rows, cols) for b in bits]


def moved(array: Array, offset: int) -> Array:
    """A copy that begins `offset` bytes after a border of 64 bytes and ends with its memory."""
    room = np.zeros(array.nbytes + 128, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    data = room[begin : begin + array.nbytes]
    data[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    copy = np.frombuffer(data.data, array.dtype, array.size).reshape(array.shape)
    assert not array.size or copy.ctypes.data % 64 == offset
    return copy  # type: ignore[return-value]
