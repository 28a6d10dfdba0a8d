"""Attention sinks that move with the window: their keys are turned to later positions."""

from __future__ import annotations

import numpy as np

from h2q import kernels
from h2q.codec.pages import PAGE, read_pages
from h2q.engine.model import Model
from h2q.engine.page_pool import PagePool
from h2q.engine.positions import Positions


def turn_sinks(model: Model, pool: PagePool, source: int, target: int, shift: int) -> None:
    """Write page `source` into page `target` of every layer, its keys turned `shift` positions
    forward: rotary positions add up (Su et al. 2021).
    """
    angles = Positions.at(model.spec, np.full(PAGE, shift, np.int64), plain=True)
    places = np.arange(PAGE, dtype=np.int64)
    for layer, pages in enumerate(pool.layers):
        keys, values = read_pages(pages, source * PAGE + places)
        mine = angles.of_layer(model.spec, layer)
        turned = keys if mine is None else mine.turn(keys)
        kernels.store_pages(pages, turned, values, target * PAGE + places)
