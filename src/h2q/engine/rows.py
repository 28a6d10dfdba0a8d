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


@dataclass(slots=True)
class Span:
    """Tokens of `stream` from position `begin` on; its pages must reach their end."""

    stream: Stream
    begin: int
    count: int


class Rows:
    """Rows of some spans, in their order: what a model attends with.

    tokens and positions: int64 (rows,); last: of each span the row that ends it; where: what the
    kernels need to find their pages.
    """

    def __init__(self, pool: PagePool, spans: Sequence[Span]) -> None:
        self.pool = pool
        self.last: list[int] = []
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        streams: list[int] = []
        seen: list[int] = []
        tables: list[list[int]] = []
        longest = max([len(span.stream.pages) for span in spans])
        for index, span in enumerate(spans):
            stream, begin, count = span.stream, span.begin, span.count
            end, first = begin + count, begin + 1 - stream.dropped * PAGE
            tokens += stream.tokens[begin:end]
            positions += range(begin, end)
            slots += stream.slots(begin, count)
            streams += [index] * count
            seen += range(first, first + count)
            tables.append(stream.pages + [0] * (longest - len(stream.pages)))
            self.last.append(len(tokens) - 1)
        self.tokens, self.positions = np.array(tokens, np.int64), np.array(positions, np.int64)
        self.where = kernels.StepRows(
            slots=np.array(slots, np.int64),
            tables=np.array(tables, np.int32),
            streams=np.array(streams, np.int32),
            seen=np.array(seen, np.int32),
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
