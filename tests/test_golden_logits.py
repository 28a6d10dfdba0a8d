"""The engine in float32 against logits of transformers (tests/golden/make_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import CONFIGS, write_model
from h2q import kernels
from h2q.engine import load_original
from h2q.sources import Source, open_source
from stories260k import Stories

GOLDEN = Path(__file__).parent / "golden"


def distance(name: str, source: Source) -> float:
    golden = np.load(GOLDEN / f"{name}.npz")
    model = load_original(source)
    found = model.forward(golden["tokens"], model.new_cache())[:, -golden["logits"].shape[1] :]
    return float(np.abs(found - golden["logits"]).max())


def test_seed(seed_source: Source) -> None:
    assert distance("seed", seed_source) < 1e-3


def test_seed_on_the_numpy_twins(seed_source: Source) -> None:
    with kernels.using("numpy"):
        assert distance("seed", seed_source) < 1e-3


def test_stories260k(shared: Path) -> None:
    assert distance("stories260k", Stories(shared / "models" / "stories260K")) < 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_experts(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "experts.npz")
    model = load_original(open_source(write_model(tmp_path, name)))
    tokens, expected = golden[f"{name}.tokens"], golden[name]
    cache = model.new_cache()
    model.forward(tokens[:, :-3], cache)
    found = [model.forward(tokens[:, i : i + 1], cache) for i in range(-3, -1)]
    found.append(model.forward(tokens[:, -1:], cache))
    assert np.abs(np.concatenate(found, axis=1) - expected).max() < 1e-3
