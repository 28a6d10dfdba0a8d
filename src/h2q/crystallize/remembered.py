"""The original's answers for texts it has read: the truth that crystals are held against, without
the original in memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from h2q import kernels
from h2q.core.architecture import FINAL_NORM, head_name
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec
from h2q.crystallize.moments import FloatArray, TokenArray
from h2q.engine.block import leaving
from h2q.engine.cache import Cache
from h2q.sources import Source


class Network(Protocol):
    """What comparing needs of a model."""

    spec: ModelSpec

    def new_cache(self, batch: int = 1, capacity: int = 128) -> Cache: ...

    def forward(self, tokens: TokenArray, cache: Cache, last: bool = False) -> FloatArray:
        """Logits float32 (B, T, vocab_size) of int64 (B, T) tokens."""
        ...


class Remembered:
    """texts: int64 (texts, length); hidden: the original's last stream for them, float32 (texts *
    length, width). Only the head is kept besides.
    """

    def __init__(self, source: Source, texts: TokenArray, hidden: FloatArray) -> None:
        self.spec = source.spec
        norm = np.asarray(source.tensor(FINAL_NORM), np.float32)
        self._rows = kernels.rms_norm(hidden, norm, self.spec.rms_norm_eps)
        self._rows = self._rows.reshape(*texts.shape, -1)
        self._head = np.ascontiguousarray(source.tensor(head_name(self.spec)), np.float32)
        self._index = {row[:-1].tobytes(): index for index, row in enumerate(texts)}

    def new_cache(self, batch: int = 1, capacity: int = 128) -> Cache:
        """An empty cache, never filled."""
        return Cache(self.spec, batch, 1)

    def forward(self, tokens: TokenArray, cache: Cache, last: bool = False) -> FloatArray:
        """Logits after every token of whole texts, their last token left out. Raises UsageError for
        a text that was not read.
        """
        try:
            rows = [self._index[np.ascontiguousarray(row).tobytes()] for row in tokens]
        except KeyError as error:
            raise UsageError("The original has not read this text.") from error
        read = self._rows[rows, : tokens.shape[1]]
        return leaving(self.spec, np.asarray(read @ self._head.T, np.float32))
