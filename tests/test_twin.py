"""The outlier twin of `benchmarks/twin.py`: loud channels and the same function; the same model
once its channels are balanced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from h2q.core.architecture import tensors
from h2q.crystallize.balance import BalancedSource, middle
from h2q.sources import open_source
from twin import SAME, SEED_MODEL, Loudness, furthest, write_twin


def test_the_twin_is_the_same_function_with_louder_channels(tmp_path: Path) -> None:
    source = open_source(SEED_MODEL)
    write_twin(source, tmp_path / "twin")
    twin = open_source(tmp_path / "twin")
    tokens = np.random.default_rng(0).integers(0, source.spec.vocab_size, (2, 48))
    assert twin.spec == source.spec
    assert 0 < furthest(source, twin, tokens) < SAME
    name = "model.layers.0.input_layernorm.weight"
    louder = np.asarray(twin.tensor(name)) / np.asarray(source.tensor(name), np.float32)
    assert np.isclose(louder, Loudness().gain).sum() == Loudness().channels


def test_balanced_twins_are_one_model(tmp_path: Path) -> None:
    source = open_source(SEED_MODEL)
    write_twin(source, tmp_path / "twin")
    one, other = BalancedSource(source), BalancedSource(open_source(tmp_path / "twin"))
    for tensor in tensors(source.spec):
        mine, theirs = one.tensor(tensor.name), other.tensor(tensor.name)
        assert np.abs(mine - theirs).max() <= 1e-5 * np.abs(mine).max(), tensor.name
    tokens = np.random.default_rng(1).integers(0, source.spec.vocab_size, (2, 48))
    assert furthest(source, one, tokens) < SAME


def test_channels_without_a_partner_stay() -> None:
    above = np.array([4.0, 0.0, 1.0, np.inf, np.nan])
    below = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    assert middle(above, below).tolist() == [2, 1, 1, 1, 1]
