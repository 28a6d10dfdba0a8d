"""The native form of attention over pages. Same names, signatures and bits as `paged_twins`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import KINDS, Pages
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.kernels.extension import call, native
from h2q.kernels.native import turn

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

NOT_FINITE = "The queries, keys or values contain a value that is not finite."


def store_pages(pages: Pages, k: FloatArray, v: FloatArray, slots: npt.NDArray[np.int64]) -> None:
    """See h2q.codec.pages.store_pages."""
    handle = pages_of(pages)
    if not call(native.store_pages, handle, k, v, slots):
        raise KernelError(NOT_FINITE)


def attend_pages(
    q: FloatArray,
    pages: Pages,
    tables: IntArray,
    streams: IntArray,
    seen: IntArray,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """See h2q.kernels.paged_twins.attend_pages."""
    handle = pages_of(pages)
    out = np.empty((len(q), q.shape[1] * pages.value_dim), np.float32)
    scores = (rule.scale, rule.window, rule.softcap)
    if not call(native.attend_pages, handle, q, tables, streams, seen, *scores, sinks, out):
        raise KernelError(NOT_FINITE)
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
    """See h2q.kernels.paged_twins.store_attend."""
    store_pages(pages, k, v, slots)
    return attend_pages(q, pages, tables, streams, seen, rule, sinks)


def pages_of(pages: Pages) -> Any:
    """The extension's own form of pages, made once."""
    if pages.handles:
        return pages.handles[0]
    handle = call(
        native.Pages,
        KINDS.index(pages.kind),
        pages.key_dim,
        pages.value_dim,
        pages.keys,
        pages.values,
        pages.key_scales,
        pages.value_scales,
        turn(pages.key_turn),
        turn(pages.value_turn),
    )
    pages.handles.append(handle)
    return handle
