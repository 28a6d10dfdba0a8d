"""Vectors of texts."""

from __future__ import annotations

import numpy as np
import pytest

from h2q import kernels
from h2q.core.errors import UsageError
from h2q.engine import Model, load_original
from h2q.engine.embedding import embed
from h2q.sources import Source


@pytest.fixture(scope="module")
def model(seed_source: Source) -> Model:
    return load_original(seed_source)


def expected(model: Model, text: list[int], pooling: str) -> np.ndarray:
    cache = model.new_cache(1, len(text))
    cache.reserve(len(text))
    hidden = model.hidden(np.array(text), np.arange(len(text)), cache)
    told = kernels.rms_norm(hidden, model.norm, model.spec.rms_norm_eps)
    vector = told.mean(axis=0) if pooling == "mean" else told[-1]
    return np.asarray(vector / np.linalg.norm(vector))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_are_pooled_and_of_length_one(model: Model, pooling: str) -> None:
    draw = np.random.default_rng(1)
    texts = [draw.integers(3, 500, count).tolist() for count in (1, 40, 300)]
    found = embed(model, texts, pooling, "f16")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    for vector, text in zip(found, texts, strict=True):
        np.testing.assert_allclose(vector, expected(model, text, pooling), rtol=0, atol=2e-3)
        np.testing.assert_array_equal(embed(model, [text], pooling, "f16")[0], vector)


def test_what_cannot_be_embedded_is_refused(model: Model) -> None:
    for texts in ([[]], [[5], [10**9]], [[5] * (model.spec.max_position_embeddings + 1)]):
        with pytest.raises(UsageError):
            embed(model, texts)
    with pytest.raises(UsageError, match="no pooling"):
        embed(model, [[5]], "sum")  # type: ignore[arg-type]
    assert embed(model, []).shape == (0, model.spec.hidden_size)
