"""Attention sinks that move with the window: their keys are turned to later positions."""

from __future__ import annotations

import numpy as np

from h2q import kernels
from h2q.codec.pages import PAGE, read_pages
from h2q.engine.model import Model
from h2q.engine.page_pool import PagePool
from h2q.engine.positions import Positions
from h2q.engine.stream import Stream


def pages_wanted(stream: Stream, count: int) -> int:
    """Free pages that `make_room` may need for `count` tokens at most."""
    if stream.must_drop():
        shared = stream.pool.references(stream.pages[1]) > 1  # dropping it frees nothing
        return shared + (stream.sinks is None)
    return max(0, stream.needed(stream.reach(count)))


def make_room(model: Model, stream: Stream, count: int) -> int:
    """Give the stream pages for its next `count` tokens, dropping what its ring has to; how many
    of them it can store at once. Raises ResourceError when the pool is full.
    """
    while stream.must_drop():
        page = stream.drop()
        assert stream.sinks is not None
        turn_sinks(model, stream.pool, stream.sinks, page, stream.dropped * PAGE)
    count = stream.reach(count)
    for _ in range(stream.needed(count)):
        stream.pages.append(stream.pool.take())
    return count


def turn_sinks(model: Model, pool: PagePool, source: int, target: int, shift: int) -> None:
    """Write page `source` into page `target` of every layer, its keys turned `shift` positions
    forward: rotary positions add up (Su et al. 2021).
    """
    angles = Positions.at(model.spec, np.full(PAGE, shift, np.int64), plain=True)
    places, latent = np.arange(PAGE, dtype=np.int64), model.spec.latent
    for layer, pages in enumerate(pool.layers):
        keys, values = read_pages(pages, source * PAGE + places)
        mine = angles.of_layer(model.spec, layer)
        if mine is not None:
            begin = 0 if latent is None else latent.kv_lora_rank  # latents are not turned
            keys[..., begin:] = mine.turn(np.ascontiguousarray(keys[..., begin:]))
        kernels.store_pages(pages, keys, values, target * PAGE + places)
