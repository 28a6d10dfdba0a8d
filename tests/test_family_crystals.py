"""Every family grows into a crystal, and the crystal runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from families import write_family
from h2q.core.architecture import tensors
from h2q.crystal import open_crystal, verify_crystal
from h2q.crystallize import ModelCrystallizationEngine
from h2q.engine import load_crystal, load_original
from small_llamas import BRIEF

QUICK = replace(
    BRIEF,
    calibration_streams=2,
    calibration_length=32,
    judged_streams=1,
    measured_streams=2,
    measured_length=32,
    bits=8.0,
)


@pytest.mark.parametrize("name", ["qwen2", "gemma3", "phi3", "granite"])
def test_a_crystal(tmp_path: Path, name: str) -> None:
    source = write_family(tmp_path / "m", name, vocab_size=4096)
    path = tmp_path / "m.crystal"
    certificate = ModelCrystallizationEngine(source, QUICK).grow(path)
    crystal = open_crystal(path)
    assert crystal.spec == source.spec
    assert all(check.ok for check in verify_crystal(path))
    for tensor in tensors(source.spec):
        if not tensor.coded:
            assert np.isfinite(crystal.raw(tensor.name)).all()
    model, original = load_crystal(crystal), load_original(source)
    tokens = np.random.default_rng(1).integers(0, 4096, (1, 24))
    whole = model.forward(tokens, model.new_cache())
    expected = original.forward(tokens, original.new_cache())
    # The whole crystal is nearer to the original than its base, and near in direction.
    base = load_crystal(crystal, 0)
    first = base.forward(tokens, base.new_cache())
    assert np.abs(whole - expected).mean() <= np.abs(first - expected).mean()
    assert np.corrcoef(whole.reshape(-1), expected.reshape(-1))[0, 1] > 0.9
    kl = [prefix["kl_mean"] for prefix in certificate["prefixes"]]
    assert len(kl) > 1
    assert kl[-1] <= kl[0]
