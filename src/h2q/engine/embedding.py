"""Texts as vectors: the stream behind the final norm, pooled and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.pages import PAGE
from h2q.core.errors import UsageError
from h2q.engine.model import Model, require_tokens
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sinks import make_room
from h2q.engine.stream import Stream

FloatArray = npt.NDArray[np.float32]
Pooling = Literal["mean", "last"]
CHUNK = 256  # rows at a time


def embed(
    model: Model,
    texts: Sequence[Sequence[int]],
    pooling: Pooling = "mean",
    kind: str = "k8v8",
    normalize: bool = True,
) -> FloatArray:
    """One vector per text of token ids: float32 (texts, width). pooling: the mean over all tokens,
    or the last token. kind: of the pages keys and values lie in meanwhile. normalize: to length 1.

    Raises UsageError for no token, one outside the vocabulary, or a text beyond the context.
    """
    if pooling not in ("mean", "last"):
        raise UsageError(f"There is no pooling {pooling!r}.", fix="Choose mean or last.")
    limit = model.spec.max_position_embeddings
    for text in texts:
        require_tokens(np.array(text, np.int64), model.spec)
        if len(text) > limit:
            raise UsageError(
                f"{len(text):,} tokens do not fit the model's context of {limit:,}.",
                fix="Shorten the text, or embed it in pieces.",
            )
    longest = max(map(len, texts), default=1)
    pool = PagePool(model.spec, -(-longest // PAGE), kind)
    out = np.zeros((len(texts), model.spec.hidden_size), np.float32)
    for vector, text in zip(out, texts, strict=True):
        vector[:] = _pooled(model, Stream(pool, text), pooling, normalize)
    return out


def _pooled(model: Model, stream: Stream, pooling: Pooling, normalize: bool) -> FloatArray:
    total = np.zeros(model.spec.hidden_size, np.float64)
    while (left := len(stream.tokens) - stream.stored) > 0:
        count = make_room(model, stream, min(CHUNK, left))
        rows = Rows(stream.pool, [Span(stream, stream.stored, count)])
        hidden = model.hidden(rows.tokens, rows.positions, rows)
        told = kernels.rms_norm(hidden, model.norm, model.spec.rms_norm_eps)
        total = total + told.sum(axis=0, dtype=np.float64) if pooling == "mean" else told[-1]
        stream.advance(count)
    stream.close()
    if pooling == "mean":
        total = total / len(stream.tokens)
    length = float(np.linalg.norm(total)) if normalize else 1.0
    return np.asarray(total / length if length else total, np.float32)
