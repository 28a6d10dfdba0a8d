"""Every family in pages: what a step says, and sinks that turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import CONFIGS, write_model
from families import SPECIAL, write_family
from h2q.codec.pages import PAGE, read_pages
from h2q.engine import Model, load_original
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sinks import make_room, turn_sinks
from h2q.engine.stream import Stream
from h2q.sources import open_source

NAMES = [*SPECIAL, *CONFIGS]


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    name = request.param
    if name in SPECIAL:
        return load_original(write_family(tmp_path, name))
    return load_original(open_source(str(write_model(tmp_path, name))))


def test_pages_say_what_the_float_cache_says(model: Model) -> None:
    draw = np.random.default_rng(2)
    length = min(PAGE + 20, model.spec.max_position_embeddings)
    tokens = draw.integers(3, model.spec.vocab_size, length)
    expected = model.forward(tokens[None], model.new_cache(), last=True)[0, -1]
    stream = Stream(PagePool(model.spec, 2, "f16"), tokens.tolist())
    for count in (10, 40, 0):
        count = make_room(model, stream, count or len(tokens) - stream.stored)
        rows = Rows(stream.pool, [Span(stream, stream.stored, count)])
        found = model.step(rows.tokens, rows.positions, rows, rows.last)[0]
        stream.advance(count)
    spread = float(np.std(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * spread)


def test_turned_keys_are_those_of_later_positions(model: Model) -> None:
    """Of the first layer, whose keys know nothing but their token and position."""
    pool = PagePool(model.spec, 3, "f16")
    stream = Stream(pool, [*range(3, 3 + PAGE)] * 2)
    count = make_room(model, stream, 2 * PAGE)
    rows = Rows(pool, [Span(stream, 0, count)])
    model.step(rows.tokens, rows.positions, rows, rows.last)
    turn_sinks(model, pool, stream.pages[0], 2, PAGE)
    slots = np.arange(PAGE)
    turned, _ = read_pages(pool.layers[0], 2 * PAGE + slots)
    later, _ = read_pages(pool.layers[0], stream.pages[1] * PAGE + slots)
    np.testing.assert_allclose(turned, later, rtol=0, atol=3e-3 * float(np.abs(later).max()))
