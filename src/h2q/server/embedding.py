"""Many texts to vectors, a few at a time: who leaves in the middle costs no more, and others have
their turn in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from h2q.core.asks import EmbedAsk, Embeddings

if TYPE_CHECKING:
    from h2q.runtime.worker import Worker

BATCH = 64  # texts


async def embedded_in_turns(worker: Worker, ask: EmbedAsk) -> Embeddings:
    """All vectors, in order. Raises as the worker does."""
    found = [
        await worker.embed(replace(ask, texts=ask.texts[begin : begin + BATCH]))
        for begin in range(0, len(ask.texts), BATCH)
    ]
    vectors = b"".join(part.vectors for part in found)
    width = found[0].width if found else 0
    return Embeddings(vectors, width, sum(part.tokens for part in found))
