"""The token loop: prompt in, one token after another out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from h2q.core.errors import UsageError
from h2q.engine.cache import Cache
from h2q.engine.model import Model
from h2q.engine.sampling import Distribution, Sampler


def generate(
    model: Model,
    prompt: Sequence[int],
    sampler: Sampler,
    max_tokens: int,
    stop: Collection[int] = (),
    cache: Cache | None = None,
) -> Iterator[tuple[int, float]]:
    """Yield (token, log-probability in nats under the unmodified distribution); a stop token ends
    without being yielded.

    Ends when the context is full. `cache` continues an earlier text. Raises UsageError on an empty
    prompt.
    """
    if not prompt:
        raise UsageError("The prompt is empty and the model has no token to begin with.")
    cache = cache or model.new_cache()
    tokens = np.array([prompt], np.int64)
    for _ in range(max_tokens):
        if cache.length + tokens.shape[1] > cache.limit:
            if tokens.shape[1] > 1:
                cache.reserve(tokens.shape[1])
            return
        found = Distribution(model.forward(tokens, cache, last=True)[0, -1])
        token = sampler.pick(found)
        if token in stop:
            return
        sampler.accept(token)
        yield token, found.of(token).logprob
        tokens = np.array([[token]], np.int64)
