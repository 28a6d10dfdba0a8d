"""Choosing the next token of one stream: options, penalties, cuts, a seeded draw, likelihoods."""

from h2q.core.sampling_options import SamplingOptions
from h2q.engine.sampling.likelihood import (
    Distribution,
    Likelihood,
    log_softmax,
)
from h2q.engine.sampling.sampler import Sampler

__all__ = [
    "Distribution",
    "Likelihood",
    "Sampler",
    "SamplingOptions",
    "log_softmax",
]
