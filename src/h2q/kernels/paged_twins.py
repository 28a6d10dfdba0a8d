"""The NumPy twin of attention over pages (h2q.codec.pages), in the order of additions that the
native form keeps.

Products are exact: a query's head is rotated and rounded to 14 bits, so that its sums with int8
keys are whole numbers below 2^31, whatever the order. One page at a time, in logical order, the
visible scores give their maximum, weights exp(score - maximum) and LANES sums of weights; weights
times the positions' value scales are rounded to 16 bits by their largest, and their sums with the
values are whole numbers again. Pages are joined by the running maximum (Milakov and Gimelshein
2018): what was gathered is scaled by exp(old - new maximum) and the page's share by exp(its own -
new maximum). The lanes are added as a tree at the end. What a page gives depends on its query
alone, so pages may be worked on in any order and by any thread before they are joined in theirs.

Rounding queries and weights costs nothing measurable beside rounding keys and values to eight bits
(relative steps of 2^-14 and 2^-16 against 2^-8), and 16-bit pairs are the widest product every
processor has an instruction for. In f16 all products are float32, summed dimension after dimension
and position after position.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import (
    PAGE,
    Pages,
    key_codes,
    require_finite,
    round_rows,
    store_pages,
    turned,
    value_codes,
)
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.geometry.rotation import unrotate
from h2q.kernels.sums import LANES, ONE, exp, lanes, tree

__all__ = ["attend_pages", "store_attend", "store_pages"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

QUERY_LIMIT = 8191
WEIGHT_LIMIT = 32767


def attend_pages(
    q: FloatArray,
    pages: Pages,
    tables: IntArray,
    streams: IntArray,
    seen: IntArray,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """Attention of every row over the pages of its stream, grouped queries.

    q: float32 (rows, heads, key_dim). tables: int32 (streams, most pages), page ids in logical
    order. streams: int32 (rows,), the table of each row. seen: int32 (rows,), the logical positions
    before the end of what the row sees, at least 1; rule.window counts back from there. sinks:
    float32 (heads,), the score of an entry without a value, or None. Returns float32 (rows, heads *
    value_dim). Raises KernelError for a page or position that is not there and for a query that is
    not finite.
    """
    require_finite(q)
    _require_tables(pages, tables, streams, seen, rule)
    out = np.empty((len(q), q.shape[1] * pages.value_dim), np.float32)
    for row in range(len(q)):
        first = max(0, int(seen[row]) - rule.window) if rule.window else 0
        span = range(first // PAGE, -(-int(seen[row]) // PAGE))
        table = tables[streams[row]]
        out[row] = _row(q[row], pages, table, span, first, int(seen[row]), rule, sinks)
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
    """store_pages, then attend_pages."""
    store_pages(pages, k, v, slots)
    return attend_pages(q, pages, tables, streams, seen, rule, sinks)


def _require_tables(
    pages: Pages, tables: IntArray, streams: IntArray, seen: IntArray, rule: AttentionRule
) -> None:
    if not len(streams):
        return
    if streams.min() < 0 or streams.max() >= len(tables):
        raise KernelError("A row belongs to a stream that has no table.")
    if seen.min() < 1 or seen.max() > tables.shape[1] * PAGE:
        raise KernelError("A row sees nothing, or positions beyond its table.")
    for stream, end in zip(streams, seen, strict=True):
        first = max(0, int(end) - rule.window) // PAGE if rule.window else 0
        table = tables[stream, first : -(-int(end) // PAGE)]
        if table.min() < 0 or table.max() >= pages.count:
            raise KernelError(f"A table names a page outside the {pages.count:,} there are.")


def _row(
    q: FloatArray,
    pages: Pages,
    table: IntArray,
    span: range,
    first: int,
    end: int,
    rule: AttentionRule,
    sinks: FloatArray | None,
) -> FloatArray:
    heads, groups = len(q), len(q) // pages.kv_heads
    rounded = pages.kind != "f16"
    factor = np.full(heads, rule.scale, np.float32)
    if rounded:
        codes, scales = round_rows(turned(q[None], pages.key_turn)[0], QUERY_LIMIT)
        require_finite(scales)
        q, factor = codes.astype(np.float32), scales * np.float32(rule.scale)
    best = np.full(heads, -np.inf, np.float32) if sinks is None else sinks.astype(np.float32)
    norm = np.zeros((heads, LANES), np.float32)
    out = np.zeros((heads, pages.value_dim), np.float32)
    for index in span:
        page = table[index : index + 1]
        position = np.arange(index * PAGE, (index + 1) * PAGE)
        visible = (position >= first) & (position < end)
        keys = np.repeat(key_codes(pages, page)[0], groups, axis=0)
        values = np.repeat(value_codes(pages, page)[0], groups, axis=0)
        if rounded:
            assert pages.key_scales is not None
            sums = _exact(q[:, None], keys)[:, 0]
            scores = sums * np.repeat(pages.key_scales[page[0]], groups, axis=0) * factor[:, None]
        else:
            scores = _in_order(q, keys) * factor[:, None]
        if rule.softcap:
            cap = np.float32(rule.softcap)
            scores = cap * (ONE - np.float32(2) / (exp(scores / cap * np.float32(2)) + ONE))
        loudest = np.where(visible, scores, np.float32(-np.inf)).max(axis=-1)
        weights = np.where(visible, exp(scores - loudest[:, None]), np.float32(0))
        if rounded:
            assert pages.value_scales is not None
            shares = weights * np.repeat(pages.value_scales[page[0]], groups, axis=0)
            codes, scales = round_rows(shares, WEIGHT_LIMIT)
            part = _exact(codes[:, None].astype(np.float32), values)[:, 0] * scales[:, None]
        else:
            part = _in_order(weights, values)
        most = np.maximum(best, loudest)
        old, new = exp(best - most)[:, None], exp(loudest - most)[:, None]
        norm = norm * old + lanes(weights) * new
        out = out * old + part * new
        best = most
    total = tree(norm)
    if sinks is not None:
        total = total + exp(sinks - best)
    out = out / total[:, None]
    return (unrotate(out, pages.value_turn) if rounded else out).reshape(-1)


def _exact(a: FloatArray, b: FloatArray) -> FloatArray:
    """Products of whole numbers, exact in float64, rounded once: (h, 1, n) x (h, n, m)."""
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)), np.float32)


def _in_order(a: FloatArray, b: FloatArray) -> FloatArray:
    """(h, n) x (h, n, m), one element after the other."""
    total = np.zeros((len(a), b.shape[2]), np.float32)
    for i in range(b.shape[1]):
        total = total + a[:, i, None] * b[:, i]
    return total
