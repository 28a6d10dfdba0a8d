"""Every family in float32 against Hugging Face transformers: prefill, then step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from families import SPECIAL, write_family
from h2q.engine import load_original

TOLERANCE = 1e-3


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("shape", [(1, 60), (3, 40)])
def test_family(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    peer = pytest.importorskip("families_model", reason="transformers is not installed")
    source = write_family(tmp_path / name, name)
    tokens = np.random.default_rng(5).integers(0, source.spec.vocab_size, shape)
    model = load_original(source)
    cache = model.new_cache(shape[0], capacity=4)
    half = shape[1] // 2
    parts = [model.forward(tokens[:, :half], cache)]
    parts += [model.forward(tokens[:, i : i + 1], cache) for i in range(half, shape[1])]
    expected = peer.folder_logits(tmp_path / name, tokens)
    found = np.concatenate(parts, axis=1)
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < TOLERANCE
