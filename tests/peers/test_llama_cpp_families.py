"""Greedy tokens of every family's GGUF file, ours and llama.cpp's."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from family_gguf import SPELLED, write_family_gguf
from gguf_files import sentencepiece_words
from h2q.engine import load_original
from h2q.sources.gguf_file import GGUFSource

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

WORDS = sentencepiece_words(300)
PROMPT, COUNT = 20, 16


@pytest.mark.parametrize(
    "name", [n for n in SPELLED if n != "phi3"]
)  # its windows are not run there
def test_same_logits(tmp_path: Path, name: str) -> None:
    _, path = write_family_gguf(tmp_path, name, WORDS)
    theirs = llama_cpp.Llama(
        str(path), n_ctx=64, logits_all=True, flash_attn=False, type_k=0, type_v=0, verbose=False
    )
    model = load_original(GGUFSource(path))
    tokens = np.random.default_rng(5).integers(0, len(WORDS.tokens), PROMPT).tolist()
    try:
        theirs.eval(tokens)
        for _ in range(COUNT):
            ours = model.forward(np.array([tokens]), model.new_cache(), last=True)[0, -1]
            row = np.array(theirs.scores[len(tokens) - 1])
            assert np.abs(ours - row).max() < 2e-2 * max(1.0, np.abs(row).max())
            second, first = np.sort(row)[-2:]
            if first - second > 1e-2:
                assert int(ours.argmax()) == int(row.argmax())
            tokens.append(int(row.argmax()))
            theirs.eval(tokens[-1:])
    finally:
        theirs.close()
