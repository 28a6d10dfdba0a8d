"""A started model for one reader, and what it is asked."""

from __future__ import annotations

from h2q.core.asks import Ask
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime.loading import Started
from h2q.runtime.service import Service


def alone(started: Started) -> Service:
    return Service(started.order, started, alone=True)


def asked(
    text: str,
    tokens: int,
    temperature: float = 0.0,
    seed: int | None = None,
    unheard: tuple[int, ...] = (),
) -> Ask:
    """unheard: tokens that are not to be said, as those that end a text."""
    bias = tuple((token, -100.0) for token in unheard)
    sampling = SamplingOptions(
        temperature=temperature, seed=seed, max_tokens=tokens, logit_bias=bias
    )
    return Ask(prompt=text, raw=True, sampling=sampling, split=False)
