"""Texts to vectors, between the steps of a model that goes on answering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2q.core.asks import Ask, EmbedAsk, Embeddings

if TYPE_CHECKING:
    from h2q.runtime.service import Service


def embedded(service: Service, ask: EmbedAsk) -> Embeddings:
    """One float32 vector per text. Raises UsageError for a text that does not fit, TextError."""
    from h2q.engine.embedding import embed

    model, kind = service.started.model, service.pool.kind
    context = model.spec.max_position_embeddings
    limit = min(ask.context or context, context)
    texts = [
        service.asking.prompter.prompt(Ask(prompt=text, raw=True, truncate=ask.truncate), limit)
        for text in ask.texts
    ]
    rows = []
    for text in texts:
        work = lambda tokens=text.tokens: embed(  # noqa: E731
            model, [tokens], kind=kind, normalize=ask.normalize
        ).tobytes()
        rows.append(service.called(work))
    count = sum(len(text.tokens) for text in texts)
    return Embeddings(b"".join(rows), model.spec.hidden_size, count)
