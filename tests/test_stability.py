"""The stability controller, on linear maps of known growth and on the seed model with a planted
fault.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

import h2q
from h2q.core.errors import QualityError, UsageError
from h2q.crystal import Crystal
from h2q.crystallize import measure_growth, sample_text
from h2q.crystallize.stability import EMBEDDING, SpectralStabilityController, hidden_states
from h2q.engine import Model, load_crystal, load_original
from h2q.engine.block import Attention
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import DenseEmbedding, DenseProjection
from h2q.sources import Source


@pytest.fixture(scope="module")
def original(seed_source: Source) -> Model:
    return load_original(seed_source)


@pytest.fixture(scope="module")
def tokens(original: Model) -> np.ndarray:
    return sample_text(original, 2, 96, seed=77)


def corrupted(model: Model, layer: int, noise: float) -> Model:
    """The same network with noise on one layer's weights, relative to their deviation."""
    broken = copy.copy(model)
    broken.layers = list(model.layers)
    rng = np.random.default_rng(layer)

    def noisy(part: Attention | GatedMLP, *names: str) -> Attention | GatedMLP:
        projections = {}
        for name in names:
            old = getattr(part, name)
            weights = [
                w + (noise * w.std() * rng.standard_normal(w.shape)).astype(np.float32)
                for w in old.weights
            ]
            projections[name] = DenseProjection(old.names, weights)
        return replace(part, **projections)

    old = model.layers[layer]
    attention, mlp = noisy(old.attention, "qkv", "o"), noisy(old.mlp, "gate_up", "down")
    broken.layers[layer] = replace(old, attention=attention, mlp=mlp)
    return broken


def everywhere(model: Model, noise: float) -> Model:
    """Noise on every layer and on the embedding, as a crystal has it."""
    for layer in range(len(model.layers)):
        model = corrupted(model, layer, noise)
    assert isinstance(model.embedding, DenseEmbedding)
    rows = model.embedding.rows
    rng = np.random.default_rng(99)
    noisy = rows + (noise * rows.std() * rng.standard_normal(rows.shape)).astype(np.float32)
    model.embedding = DenseEmbedding(noisy)
    return model


def test_the_public_name() -> None:
    assert h2q.SpectralStabilityController is SpectralStabilityController


def through_maps(gains: list[float], error: float) -> SpectralStabilityController:
    """An error of that relative size is stretched by a known gain in every layer, the state keeps
    its norm.
    """
    controller = SpectralStabilityController()
    rng = np.random.default_rng(0)
    state = rng.standard_normal((40, 16))
    wrong = rng.standard_normal((40, 16))
    wrong *= error * np.linalg.norm(state) / np.linalg.norm(wrong)
    for layer, gain in enumerate([1.0, *gains], EMBEDDING):
        turn, _ = np.linalg.qr(rng.standard_normal((16, 16)))
        state, wrong = state @ turn, gain * wrong @ turn
        controller.observe(layer, state.astype(np.float32), (state + wrong).astype(np.float32))
    return controller


@pytest.mark.parametrize(
    ("gains", "error"),
    [([1.5, 0.5, 3.0, 1.0], 0.01), ([4.0] * 6, 1e-4), ([0.25] * 6, 0.5), ([9.0, 0.1] * 3, 1e-3)],
    ids=["mixed", "ever growing", "ever shrinking", "to and fro"],
)
def test_exponents_of_linear_maps_are_the_logs_of_their_gains(
    gains: list[float], error: float
) -> None:
    found = through_maps(gains, error).depth_growth()
    assert list(found.values()) == pytest.approx(list(np.log(gains)), abs=5e-3)


@pytest.mark.parametrize("layer", [1, 4, 11])
def test_one_layer_that_grows_among_others_that_grow_less_is_found(layer: int) -> None:
    """However small the error is that reaches it."""
    gains = [1.4] * 12
    gains[layer] = 8.0
    controller = through_maps(gains, 1e-3)
    assert controller.unstable() == [layer]
    first = controller.priorities(range(12))
    assert {other for other, value in first.items() if value > 1} == {layer}


def test_an_embedding_without_error_hardly_speaks_against_the_first_layer() -> None:
    """Which brings the error that others hand on: it counts as doubled, no more."""
    controller = through_maps([60.0, 1.0, 1.1, 0.9, 1.0], 1e-3)
    assert controller.depth_growth()[0] == pytest.approx(np.log(60), abs=5e-3)
    first = controller.priorities(range(5))
    assert 1 < first[0] < 2
    assert {first[layer] for layer in range(1, 5)} == {1.0}


def test_growth_over_tokens_is_the_slope_of_the_log_error() -> None:
    """Observed in two parts, of two rows: only sums are kept."""
    controller = SpectralStabilityController()
    positions = np.arange(50)
    for row in range(2):
        state = np.random.default_rng(row).standard_normal((50, 8)).astype(np.float32)
        error = state * np.exp(0.03 * positions - 4)[:, None].astype(np.float32)
        for part in (slice(0, 20), slice(20, 50)):
            controller.observe(0, state[part], (state + error)[part], positions[part])
    assert controller.token_growth() == pytest.approx(0.03, rel=1e-3)
    assert controller.token_growth(5) is None


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_a_planted_fault_is_found_and_comes_first(
    original: Model, tokens: np.ndarray, layer: int
) -> None:
    """Everything a little wrong, one layer very wrong."""
    broken = corrupted(everywhere(original, 0.05), layer, 1.0)
    controller = measure_growth(original, broken, tokens)
    assert controller.unstable() == [layer]
    values = controller.priorities(range(6))
    assert max(values, key=lambda key: values[key]) == layer
    assert values[layer] > 1
    assert all(values[other] == 1 for other in values if other != layer)


def test_a_fault_in_an_otherwise_exact_model(original: Model, tokens: np.ndarray) -> None:
    controller = measure_growth(original, corrupted(original, 3, 0.5), tokens)
    assert controller.unstable() == [3]
    errors = controller.relative_errors()
    assert errors[2] == 0
    assert errors[3] > 0.01


def test_healthy_layers_are_not_flagged(
    original: Model, tokens: np.ndarray, seed_crystal: Crystal
) -> None:
    noisy = everywhere(original, 0.05)
    for crystal in (load_crystal(seed_crystal, 0), load_crystal(seed_crystal), noisy):
        controller = measure_growth(original, crystal, tokens)
        assert controller.unstable() == []
        assert set(controller.priorities(range(6)).values()) == {1.0}
        entry = controller.to_json()
        assert len(entry["depth"]) == len(entry["relative_error"]) == 6
        assert all(0 < value < 1 for value in entry["relative_error"])
        assert math.isfinite(entry["tokens"])
        assert entry["bound"] > max(entry["depth"][1:])  # of what came with the embedding
    assert measure_growth(original, original, tokens).unstable() == []


def test_an_absolute_bound_holds_besides(original: Model, tokens: np.ndarray) -> None:
    controller = SpectralStabilityController(absolute=-10.0)
    states = hidden_states(original, tokens[0])
    for layer, state in states.items():
        controller.observe(layer, state, 1.1 * state)
    assert controller.bound() == -10
    assert sorted(controller.unstable()) == list(range(6))


def test_the_observer_sees_the_stream_and_changes_nothing(
    original: Model, tokens: np.ndarray
) -> None:
    expected = original.forward(tokens, original.new_cache(2))
    states = hidden_states(original, tokens[0])
    assert list(states) == [EMBEDDING, *range(6)]
    assert {state.shape for state in states.values()} == {(96, original.spec.hidden_size)}
    assert original.hidden_observer is None
    np.testing.assert_array_equal(original.forward(tokens, original.new_cache(2)), expected)


def test_nonsense_is_refused(original: Model) -> None:
    controller = SpectralStabilityController()
    good = np.ones((2, 4), np.float32)
    with pytest.raises(UsageError, match="compared"):
        controller.observe(0, good, np.ones((3, 4), np.float32))
    with pytest.raises(QualityError, match="finite"):
        controller.observe(0, good, np.full((2, 4), np.inf, np.float32))
    with pytest.raises(UsageError):
        SpectralStabilityController(deviations=0)
    assert controller.unstable() == []
    assert controller.bound() is None
    assert controller.priorities([1]) == {1: 1.0}
