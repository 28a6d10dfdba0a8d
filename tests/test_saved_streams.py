"""Streams on disk: they go on where they were, and nothing else is believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from h2q.codec.pages import PAGE
from h2q.core.errors import CrystalError, H2QError, ResourceError
from h2q.core.specs import ModelSpec
from h2q.engine import Model, load_original
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.saved import load_stream, save_stream
from h2q.engine.sinks import make_room
from h2q.engine.stream import Stream
from h2q.sources import Source


@pytest.fixture(scope="module")
def model(seed_source: Source) -> Model:
    return load_original(seed_source)


def go_on(model: Model, stream: Stream) -> np.ndarray:
    """Run all tokens that are not stored; the logits after the last."""
    while (left := len(stream.tokens) - stream.stored) > 0:
        count = make_room(model, stream, min(left, 50))
        rows = Rows(stream.pool, [Span(stream, stream.stored, count)])
        logits = model.step(rows.tokens, rows.positions, rows, rows.last)
        stream.advance(count)
    return logits


def begun(model: Model, keep: int, count: int, kind: str = "k8v8") -> Stream:
    draw = np.random.default_rng(5)
    stream = Stream(PagePool(model.spec, 8, kind), draw.integers(3, 500, count).tolist(), keep)
    go_on(model, stream)
    return stream


@pytest.mark.parametrize(("keep", "kind"), [(0, "k8v8"), (3, "k8v8"), (0, "k8v4"), (3, "f16")])
def test_a_stream_goes_on_after_a_restart(
    model: Model, tmp_path: Path, keep: int, kind: str
) -> None:
    stream = begun(model, keep, 290, kind)
    assert bool(stream.dropped) == bool(keep)
    save_stream(stream, tmp_path / "a.stream", "key")
    again = load_stream(PagePool(model.spec, 8, kind), tmp_path / "a.stream", "key")
    for one in (stream, again):
        one.tokens += [9, 8, 7] * 30
    np.testing.assert_array_equal(go_on(model, again), go_on(model, stream))
    for one in (stream, again):
        one.close()
        assert one.pool.free == 8


def test_a_restored_beginning_is_shared(model: Model, tmp_path: Path) -> None:
    stream = begun(model, 0, 2 * PAGE + 5)
    save_stream(stream, tmp_path / "a.stream", "key")
    pool = PagePool(model.spec, 8)
    again = load_stream(pool, tmp_path / "a.stream", "key")
    other = Stream(pool, [*again.tokens, 4])
    assert other.find_prefix() == 2 * PAGE
    assert other.pages == again.pages[:2]


def test_another_key_or_cache_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.stream"
    save_stream(begun(model, 0, 100), path, "key")
    for pool, key in (
        (PagePool(model.spec, 8), "other planes"),
        (PagePool(model.spec, 8, "f16"), "key"),
        (PagePool(narrow(model.spec), 8), "key"),
    ):
        with pytest.raises(CrystalError):
            load_stream(pool, path, key)
        assert pool.free == 8
    with pytest.raises(ResourceError, match="takes 2 pages"):
        load_stream(PagePool(model.spec, 1), path, "key")


def narrow(spec: ModelSpec) -> ModelSpec:
    data = spec.to_json()
    return ModelSpec.from_json({**data, "num_key_value_heads": 1, "num_attention_heads": 1})


def damaged(data: bytes) -> Iterator[bytes]:
    draw = np.random.default_rng(1)
    for place in draw.integers(0, len(data), 40):
        yield data[:place] + bytes([data[place] ^ 1 << int(draw.integers(8))]) + data[place + 1 :]
    yield from (data[: int(cut)] for cut in draw.integers(0, len(data), 10))


def test_damaged_files_are_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.stream"
    save_stream(begun(model, 0, 70), path, "key")
    pool = PagePool(model.spec, 8)
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(H2QError):
            load_stream(pool, path, "key")
    assert pool.free == 8
