"""GGUF files of every family against the Hugging Face form of the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from family_gguf import SPELLED, write_family_gguf
from gguf_files import sentencepiece_words
from h2q.core.errors import SourceError
from h2q.engine import load_original
from h2q.sources.gguf_file import GGUFSource

WORDS = sentencepiece_words(300)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (np.ones((4, 8), np.float32), "short list"),
        (np.ones(9, np.float32), "frequencies"),
        (np.zeros(8, np.float32), "number"),
        (np.full(8, np.nan, np.float32), "finite"),
    ],
)
def test_factors_that_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: np.ndarray, words: str
) -> None:
    name = "rope_freqs.weight"
    monkeypatch.setattr("family_gguf._tables", lambda spec, config: {name: numbers})
    _, path = write_family_gguf(tmp_path, "llama3", WORDS)
    with pytest.raises(SourceError, match=words):
        GGUFSource(path)


@pytest.mark.parametrize("name", SPELLED)
def test_both_forms_are_one_model(tmp_path: Path, name: str) -> None:
    source, path = write_family_gguf(tmp_path, name, WORDS)
    found = GGUFSource(path)
    for tensor in found.names():
        np.testing.assert_array_equal(found.tensor(tensor), source.tensor(tensor))
    plain = {"rope_scaling": None, "embedding_multiplier": 1.0, "attention_multiplier": 0.0}
    assert replace(found.spec, **plain, layer_types=()) == replace(
        source.spec, **plain, layer_types=()
    )
    tokens = np.random.default_rng(3).integers(0, len(WORDS.tokens), (1, 40))
    first, second = load_original(found), load_original(source)
    logits = first.forward(tokens, first.new_cache())
    expected = second.forward(tokens, second.new_cache())
    np.testing.assert_allclose(logits, expected, atol=5e-4)
