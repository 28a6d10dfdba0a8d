"""The derivative of every family's block against differences of its own forward pass, and of the
head behind its scaling and cap.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from families import SPECIAL, config_of, write_family
from h2q.crystallize.gradients import leaving_slope
from h2q.crystallize.layer_gradients import layer_back
from h2q.engine.block import Layer, leaving, run_texts
from h2q.engine.load import OriginalWeights, build_layer
from h2q.engine.projections import FloatArray, Projection
from h2q.sources.hf_config import model_spec

BATCH, LENGTH, STEP = 2, 16, 3e-3
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

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        outputs = self.inner(x)
        outputs[self.index] = outputs[self.index] + self.nudge
        return outputs


@pytest.mark.parametrize("name", SPECIAL)
def test_a_block(tmp_path: Path, name: str) -> None:
    source = write_family(tmp_path / name, name)
    spec = source.spec
    layer = build_layer(spec, OriginalWeights(source), spec.num_hidden_layers - 1)
    draw = np.random.default_rng(2).standard_normal
    x = draw((BATCH * LENGTH, spec.hidden_size), np.float32)
    ahead = draw(x.shape, np.float32)
    heard: dict[str, FloatArray] = {}
    back = layer_back(spec, layer, x, ahead, BATCH, heard.__setitem__)
    assert set(heard) == {name for each in layer.matrices() for name in each.names}

    def weighed(layer: Layer, x: FloatArray) -> float:
        return float(np.sum(run_texts(spec, layer, x, BATCH).astype(np.float64) * ahead))

    way = back / np.linalg.norm(back)
    step = np.float32(STEP * np.linalg.norm(x))
    high, low = (weighed(layer, x + s * way) for s in (step, -step))
    expected = float(np.sum(back.astype(np.float64) * way))
    assert (high - low) / (2 * step) == pytest.approx(expected, rel=1e-2)
    for part, field, index in KINDS:
        room = getattr(layer, part)
        inner: Projection = getattr(room, field)
        grad = heard[inner.names[index]]
        way = grad / np.linalg.norm(grad)
        step = np.float32(STEP * np.sqrt(grad.size))
        ends = []
        for sign in (step, -step):
            moved = replace(room, **{field: Nudged(inner, index, sign * way)})
            ends.append(weighed(replace(layer, **{part: moved}), x))
        expected = float(np.sum(grad.astype(np.float64) * way))
        found = (ends[0] - ends[1]) / (2 * step)
        assert found == pytest.approx(expected, rel=1e-2), (part, field, index)


@pytest.mark.parametrize("name", ["gemma2", "granite"])
def test_behind_the_head(name: str) -> None:
    spec = model_spec(config_of(name), None, "config.json")
    answers = np.random.default_rng(3).standard_normal((4, 9))
    slope = leaving_slope(spec, leaving(spec, answers))
    high, low = (leaving(spec, answers + step) for step in (1e-4, -1e-4))
    np.testing.assert_allclose((high - low) / 2e-4, slope, rtol=1e-4)
