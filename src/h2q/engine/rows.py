"""One step's rows, of any number of streams, each at its own position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.pages import PAGE
from h2q.core.attention import AttentionRule
from h2q.engine.page_pool import PagePool
from h2q.engine.stream import Stream

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Tokens of `stream` from position `begin` on; its pages must reach their end."""

    stream: Stream
    begin: int
    count: int


class Rows:
    """Rows of some spans, in their order: what a model attends with.

    tokens and positions: int64 (rows,); last: int64 (spans,), the row that ends each span; where:
    what the kernels need to find their pages.
    """

    def __init__(self, pool: PagePool, spans: Sequence[Span]) -> None:
        self.pool = pool
        counts = [span.count for span in spans]
        self.last = np.cumsum(counts) - 1
        self.tokens = _joined([s.stream.tokens[s.begin : s.begin + s.count] for s in spans])
        self.positions = _joined([range(s.begin, s.begin + s.count) for s in spans])
        gone = np.repeat([s.stream.dropped * PAGE for s in spans], counts)
        longest = max(len(s.stream.pages) for s in spans)
        tables = np.zeros((len(spans), longest), np.int32)
        for row, span in zip(tables, spans, strict=True):
            row[: len(span.stream.pages)] = span.stream.pages
        self.where = kernels.StepRows(
            slots=_joined([s.stream.slots(s.begin, s.count) for s in spans]),
            tables=tables,
            streams=np.repeat(np.arange(len(spans), dtype=np.int32), counts),
            seen=(self.positions + 1 - gone).astype(np.int32),
        )

    def attend(
        self,
        layer: int,
        q: FloatArray,
        k: FloatArray,
        v: FloatArray,
        rule: AttentionRule,
        sinks: FloatArray | None = None,
    ) -> FloatArray:
        """See Attending: keys and values go into the pages, then every row looks at its stream's
        positions up to its own.
        """
        pages = self.pool.layers[layer]
        where = self.where
        kernels.store_pages(pages, k, v, where.slots)
        return kernels.attend_pages(q, pages, where.tables, where.streams, where.seen, rule, sinks)


def _joined(parts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter((item for part in parts for item in part), np.int64)
