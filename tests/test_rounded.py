"""Weights in seven bits: how far they lie from the original, and that every family runs on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import write_model
from families import write_family
from h2q.codec.rounded import rounded
from h2q.core.errors import KernelError, SourceError
from h2q.crystallize import compare
from h2q.crystallize.sampling import sample_text
from h2q.engine import load_original
from h2q.engine.load import build
from h2q.engine.rounded import RoundedWeights
from h2q.sources import Source, open_source


@pytest.mark.parametrize("shape", [(1, 1), (17, 5), (32, 8), (300, 26)])
def test_a_weight_moves_by_half_a_step_at_most(shape: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weights[0] = 0
    found = rounded(weights)
    ids = np.random.default_rng(1).permutation(shape[0])
    step = np.abs(weights).max(axis=1, keepdims=True) / 63
    assert (np.abs(found.rows(ids) - weights[ids]) <= 0.501 * step[ids]).all()
    assert found.levels.max() <= 127
    assert found.levels.min() >= 1


def family(folder: Path, name: str) -> Source:
    if name in ("gemma2", "granite"):
        return write_family(folder, name)
    return open_source(write_model(folder, name))


@pytest.mark.parametrize("name", ["gemma2", "granite", "mixtral", "deepseek_v3", "gpt_oss"])
def test_families_say_almost_the_same(name: str, tmp_path: Path) -> None:
    source = family(tmp_path / "source", name)
    original = load_original(source)
    tokens = sample_text(original, 2, 24, seed=1)
    (found,) = compare(original, [build(source.spec, RoundedWeights(source, 5))], tokens)
    assert 0 < found.kl_mean < 0.05


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    source = write_family(tmp_path / "source", "granite")
    name = "model.layers.0.mlp.gate_proj.weight"
    weights = RoundedWeights(source, 0)
    with pytest.raises(KernelError, match=name):
        weights.projection([name])(np.full((1, source.spec.hidden_size), np.nan, np.float32))
    tensor = source.tensor

    def damaged(wanted: str) -> np.ndarray:
        found = np.array(tensor(wanted), np.float32)
        found[0] = np.inf if wanted == name else found[0]
        return found

    source.tensor = damaged  # type: ignore[method-assign]
    with pytest.raises(SourceError, match=name):
        RoundedWeights(source, 0).projection([name])
