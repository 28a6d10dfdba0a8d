"""The NumPy reference of reading planes: symbols to levels, products with int8 activations, rows of
an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import LANES, STATES, state_levels
from h2q.codec.layout import ROWS_PER_STEP, PanelLayout
from h2q.codec.planes import Activations, Plane, from_bfloat16
from h2q.core.errors import KernelError
from h2q.core.specs import PlaneSpec

_table = cache(state_levels)


def unpack_symbols(spec: PlaneSpec, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Symbols in trellis order: uint8 (panels, steps, 64)."""
    layout = PanelLayout.of(spec)
    shifts = np.arange(8 - spec.bits, -1, -spec.bits, dtype=np.uint8)
    symbols = codes[:, :, None, :] >> shifts[:, None] & ((1 << spec.bits) - 1)
    return np.asarray(symbols.reshape(layout.panels, -1, LANES), np.uint8)


def pack_symbols(spec: PlaneSpec, symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The inverse of unpack_symbols: uint8 (panels, lines, 64)."""
    layout = PanelLayout.of(spec)
    shifts = np.arange(8 - spec.bits, -1, -spec.bits, dtype=np.uint8)
    grouped = symbols.reshape(layout.panels, layout.lines, layout.symbols, LANES)
    return np.asarray(np.bitwise_or.reduce(grouped << shifts[:, None], axis=2), np.uint8)


def trellis_states(bits: int, symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """State after every step, int64 (panels, steps, 64); the state before the first step is
    zero.
    """
    states = symbols.astype(np.int64)
    reach = 1
    while reach * bits < 12:
        shifted = np.zeros_like(states)
        shifted[:, reach:] = states[:, :-reach]
        states |= shifted << (reach * bits)
        reach *= 2
    return states & (STATES - 1)


def decode_plane(spec: PlaneSpec, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Levels of the whole plane, int8 (rows, cols)."""
    layout = PanelLayout.of(spec)
    levels = _table(spec.bits)[trellis_states(spec.bits, unpack_symbols(spec, codes))]
    return np.array(arrange_rows(layout, levels)[: spec.rows, : spec.cols])


def arrange_rows(layout: PanelLayout, lanes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """From trellis order (panels, steps, 64) to a matrix (padded rows, padded cols)."""
    grid = lanes.reshape(layout.panels, layout.padded_cols // 4, layout.steps, ROWS_PER_STEP, 4)
    return np.asarray(grid.transpose(0, 2, 3, 1, 4).reshape(-1, layout.padded_cols))


def row_scales(plane: Plane) -> npt.NDArray[np.float32]:
    """Row scales widened to float32, (rows,)."""
    return from_bfloat16(plane.scales[: plane.spec.rows])


def matmul_planes(activations: Activations, planes: Sequence[Plane]) -> npt.NDArray[np.float32]:
    """Product of stacked planes with quantized inputs, float32 (T, rows); integer sums are
    exact.
    """
    total: npt.NDArray[np.float32] | None = None
    for plane in planes:
        levels = _decoded(plane)
        # float64 holds every product and sum exactly (far below 2^53), and BLAS makes it quick.
        sums = activations.codes[:, : plane.spec.cols].astype(np.float64) @ levels.T
        part = sums.astype(np.float32) * row_scales(plane)
        total = part if total is None else total + part
    assert total is not None
    return np.asarray(total * activations.scale[:, None], np.float32)


def gather_rows(planes: Sequence[Plane], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows of a coded matrix, still rotated, float32 (T, cols). Raises KernelError for a row that
    the matrix does not have.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() < planes[0].spec.rows:
        raise KernelError("A row lies outside the matrix.")
    total: npt.NDArray[np.float32] | None = None
    for plane in planes:
        part = row_scales(plane)[ids, None] * _decoded(plane)[ids].astype(np.float32)
        total = part if total is None else total + part
    assert total is not None
    return total


_decoded_planes: dict[int, tuple[Plane, npt.NDArray[np.float64]]] = {}
_DECODED_LIMIT = 256


def _decoded(plane: Plane) -> npt.NDArray[np.float64]:
    """Levels as float64, remembered per plane object: the reference is asked about the same planes
    again and again.
    """
    found = _decoded_planes.get(id(plane))
    if found is None or found[0] is not plane:
        if len(_decoded_planes) >= _DECODED_LIMIT:
            _decoded_planes.clear()
        found = plane, decode_plane(plane.spec, plane.codes).astype(np.float64)
        _decoded_planes[id(plane)] = found
    return found[1]
