"""The engine in float32 against Hugging Face transformers on the original weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from h2q.engine import load_original
from h2q.sources import Source
from stories260k import Stories

TOLERANCE = 1e-3


def compare(source: Source, *shape: int) -> float:
    peer = pytest.importorskip("transformers_model", reason="transformers is not installed")
    tokens = np.random.default_rng(5).integers(0, source.spec.vocab_size, shape)
    model = load_original(source)
    cache = model.new_cache(shape[0], capacity=4)
    half = shape[1] // 2
    parts = [model.forward(tokens[:, :half], cache)]
    parts += [model.forward(tokens[:, i : i + 1], cache) for i in range(half, shape[1])]
    expected = peer.transformers_logits(source, tokens)
    return float(np.abs(np.concatenate(parts, axis=1) - expected).max())


@pytest.mark.parametrize("shape", [(1, 512), (3, 64)])
def test_seed(seed_source: Source, shape: tuple[int, int]) -> None:
    assert compare(seed_source, *shape) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 256), (4, 40)])
def test_stories260k(shared: Path, shape: tuple[int, int]) -> None:
    assert compare(Stories(shared / "models" / "stories260K"), *shape) < TOLERANCE
