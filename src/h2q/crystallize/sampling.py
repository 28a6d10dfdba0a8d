"""Text asked of the original model itself: what it is calibrated and measured on when nobody brings
a text.

On text sampled at temperature 1 the mean difference of two models' losses is an unbiased estimate
of the KL divergence between them, so quality = exp(-KL) there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.core.specs import ModelSpec
from h2q.engine import Model, Sampler

TokenArray = npt.NDArray[np.int64]


def first_token(spec: ModelSpec) -> int:
    """The token a text begins with: the model's first token, else its last, else id 0."""
    if spec.bos_token_id is not None:
        return spec.bos_token_id
    return spec.eos_token_ids[0] if spec.eos_token_ids else 0


@dataclass(frozen=True)
class Wish:
    """`streams` texts, drawn under `seed`; texts may have a temperature each."""

    streams: int
    seed: int
    temperature: float | Sequence[float] = 1.0


def sample_text(
    model: Model,
    streams: int,
    length: int,
    seed: int,
    temperature: float | Sequence[float] = 1.0,
    progress: Callable[[float], None] | None = None,
) -> TokenArray:
    """`streams` texts of `length` tokens each, the first token included: int64 (streams, length).
    Texts may have a temperature each.
    """
    return sample_texts(model, [Wish(streams, seed, temperature)], length, progress)[0]


def sample_texts(
    model: Model,
    wishes: Sequence[Wish],
    length: int,
    progress: Callable[[float], None] | None = None,
) -> list[TokenArray]:
    """sample_text for several seeds side by side: the weights are read once for all of them."""
    length = min(length, model.spec.max_position_embeddings)
    ends = np.cumsum([wish.streams for wish in wishes])
    parts = [slice(end - wish.streams, end) for wish, end in zip(wishes, ends, strict=True)]
    samplers = [Sampler(temperature=1.0, seed=wish.seed) for wish in wishes]
    heat = [
        np.broadcast_to(np.asarray(wish.temperature, np.float32), wish.streams)[:, None]
        for wish in wishes
    ]
    tokens = np.full((int(ends[-1]), length), first_token(model.spec), np.int64)
    cache = model.new_cache(len(tokens), length)
    for position in range(length - 1):
        logits = model.forward(tokens[:, position : position + 1], cache)[:, 0]
        for sampler, part, divisor in zip(samplers, parts, heat, strict=True):
            tokens[part, position + 1] = sampler.choose(logits[part] / divisor)
        if progress is not None:
            progress((position + 1) / (length - 1))
    return [tokens[part] for part in parts]


def cut_text(ids: Sequence[int], spec: ModelSpec, length: int, limit: int | None) -> TokenArray:
    """Cut ids of a long text into rows of `length`, each opened by the first token: int64 (rows,
    length).
    """
    length = min(length, spec.max_position_embeddings)
    body = np.array(ids[: limit or len(ids)], np.int64)
    if len(body) < length:
        length = max(2, len(body) + 1)
    rows = max(1, len(body) // (length - 1))
    out = np.full((rows, length), first_token(spec), np.int64)
    used = body[: rows * (length - 1)]
    out[:, 1:] = used.reshape(rows, -1)
    return out
