"""Derivatives by hand, against differences of the engine's own forward pass: the block of the seed
model in float32, its outputs summed with random weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from h2q.crystallize.layer_gradients import layer_back
from h2q.engine.block import Layer, run_texts
from h2q.engine.load import OriginalWeights, build_layer, load_original
from h2q.engine.projections import FloatArray, Projection
from h2q.sources import Source

BATCH, LENGTH = 2, 12
STEP = 3e-3  # of the size of what is moved
KINDS = [
    ("attention", "qkv", 0),
    ("attention", "qkv", 1),
    ("attention", "qkv", 2),
    ("attention", "o", 0),
    ("mlp", "gate_up", 0),
    ("mlp", "gate_up", 1),
    ("mlp", "down", 0),
]


class Nudged:
    """A projection with something added to one of its outputs."""

    def __init__(self, inner: Projection, index: int, nudge: FloatArray) -> None:
        self.inner, self.index, self.nudge = inner, index, nudge
        self.size = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        outputs = self.inner(x)
        self.size = float(np.linalg.norm(outputs[self.index]))
        outputs[self.index] = outputs[self.index] + self.nudge
        return outputs


@pytest.fixture(scope="module", params=[0, 4])
def case(request: pytest.FixtureRequest, seed_source: Source) -> tuple[Layer, FloatArray]:
    """A block of the seed model and the stream before it."""
    model = load_original(seed_source)
    seen: dict[int, FloatArray] = {}
    model.hidden_observer = seen.__setitem__
    tokens = np.random.default_rng(1).integers(0, 4096, (BATCH, LENGTH))
    model.forward(tokens, model.new_cache(BATCH))
    index = request.param
    return build_layer(seed_source.spec, OriginalWeights(seed_source), index), seen[index - 1]


def directions(grad: FloatArray) -> list[FloatArray]:
    """Unit steps: uphill, and one anywhere that is uphill in part."""
    any_way = np.random.default_rng(3).standard_normal(grad.shape)
    any_way /= np.linalg.norm(any_way)
    uphill = grad / np.linalg.norm(grad)
    mixed = any_way + 0.2 * uphill
    return [uphill.astype(np.float32), (mixed / np.linalg.norm(mixed)).astype(np.float32)]


def weighed_sum(spec_source: Source, layer: Layer, x: FloatArray, ahead: FloatArray) -> float:
    """What the derivatives are of; float64."""
    out = run_texts(spec_source.spec, layer, x, BATCH)
    return float(np.sum(out.astype(np.float64) * ahead))


def heard_by(
    source: Source, layer: Layer, x: FloatArray
) -> tuple[FloatArray, dict[str, FloatArray], FloatArray]:
    """Weights of the sum, derivatives at the outputs by name, derivative at the stream."""
    ahead = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
    heard: dict[str, FloatArray] = {}
    back = layer_back(source.spec, layer, x, ahead, BATCH, heard.__setitem__)
    return ahead, heard, back


def with_projection(layer: Layer, part: str, field: str, projection: Projection) -> Layer:
    """The block with another projection."""
    inner = replace(getattr(layer, part), **{field: projection})
    return replace(layer, **{part: inner})


@pytest.mark.parametrize(("part", "field", "index"), KINDS)
def test_at_the_output_of_every_matrix(
    seed_source: Source, case: tuple[Layer, FloatArray], part: str, field: str, index: int
) -> None:
    layer, x = case
    ahead, heard, _ = heard_by(seed_source, layer, x)
    inner: Projection = getattr(getattr(layer, part), field)
    grad = heard[inner.names[index]]
    probe = Nudged(inner, index, np.zeros_like(grad))
    run_texts(seed_source.spec, with_projection(layer, part, field, probe), x, BATCH)
    for way in directions(grad):
        step = np.float32(STEP * probe.size)
        moved = [
            with_projection(layer, part, field, Nudged(inner, index, sign * step * way))
            for sign in (np.float32(1), np.float32(-1))
        ]
        high, low = (weighed_sum(seed_source, each, x, ahead) for each in moved)
        expected = float(np.sum(grad.astype(np.float64) * way))
        assert (high - low) / (2 * step) == pytest.approx(expected, rel=5e-3)


def test_at_the_stream(seed_source: Source, case: tuple[Layer, FloatArray]) -> None:
    layer, x = case
    ahead, heard, back = heard_by(seed_source, layer, x)
    assert set(heard) == {name for matrices in layer.matrices() for name in matrices.names}
    for way in directions(back):
        step = np.float32(STEP * np.linalg.norm(x))
        high, low = (weighed_sum(seed_source, layer, x + s * way, ahead) for s in (step, -step))
        expected = float(np.sum(back.astype(np.float64) * way))
        assert (high - low) / (2 * step) == pytest.approx(expected, rel=5e-3)
