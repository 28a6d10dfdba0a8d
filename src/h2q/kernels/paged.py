"""Attention over pages (h2q.codec.pages), sent to the active path. Shapes and formulas:
`paged_twins`.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.core.attention import AttentionRule
from h2q.kernels import native_pages, paged_twins
from h2q.kernels.paths import NUMPY, path

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


def _implementation() -> ModuleType:
    return paged_twins if path() == NUMPY else native_pages


def store_pages(pages: Pages, k: FloatArray, v: FloatArray, slots: npt.NDArray[np.int64]) -> None:
    """Keep keys float32 (rows, kv_heads, key_dim) and values (rows, kv_heads, value_dim) in slots
    int64 (rows,) = page * 64 + offset. Raises KernelError when a value is not finite or a slot is
    not there.
    """
    _implementation().store_pages(pages, k, v, slots)


def attend_pages(
    q: FloatArray,
    pages: Pages,
    tables: IntArray,
    streams: IntArray,
    seen: IntArray,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """Attention of q float32 (rows, heads, key_dim) over the pages of each row's stream: float32
    (rows, heads * value_dim). tables int32 (streams, most pages), streams and seen int32 (rows,).
    A row's bits depend on nothing but its query, its pages and what it sees.
    """
    out: FloatArray
    out = _implementation().attend_pages(q, pages, tables, streams, seen, rule, sinks)
    return out


def store_attend(
    pages: Pages,
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    slots: npt.NDArray[np.int64],
    tables: IntArray,
    streams: IntArray,
    seen: IntArray,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """store_pages, then attend_pages, in one call."""
    out: FloatArray = _implementation().store_attend(
        pages, q, k, v, slots, tables, streams, seen, rule, sinks
    )
    return out
