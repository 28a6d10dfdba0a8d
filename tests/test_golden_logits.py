"""The engine in float32 against logits of transformers (tests/golden/make_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2q import kernels
from h2q.engine import load_original
from h2q.sources import Source
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
