"""The original's answers without the original."""

from __future__ import annotations

import numpy as np
import pytest

from h2q.core.errors import UsageError
from h2q.crystallize import compare
from h2q.crystallize.remembered import Remembered
from h2q.engine import load_original
from h2q.sources import Source


def test_what_is_remembered_is_what_was_said(seed_source: Source) -> None:
    model = load_original(seed_source)
    texts = np.random.default_rng(0).integers(0, 4096, (3, 40))
    seen: dict[int, np.ndarray] = {}
    model.hidden_observer = seen.__setitem__
    said = model.forward(texts, model.new_cache(3))
    memory = Remembered(seed_source, texts, seen[5])
    # Whole texts but their last token, in any order.
    order = [2, 0, 1]
    inputs = np.ascontiguousarray(texts[order, :-1])
    found = memory.forward(inputs, memory.new_cache(3, 39))
    np.testing.assert_allclose(found, said[order, :-1], atol=2e-4)
    (same,) = compare(memory, [model], texts)
    assert same.kl_mean < 1e-6
    assert same.top1_agreement > 0.99
    with pytest.raises(UsageError, match="not read"):
        memory.forward(np.ascontiguousarray(texts[:, 1:]), memory.new_cache(3))
