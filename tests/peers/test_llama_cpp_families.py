"""Greedy tokens of every family's GGUF file, ours and llama.cpp's."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from family_gguf import SPELLED, write_family_gguf
from gguf_files import sentencepiece_words

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from llama_logits import worst_difference

WORDS = sentencepiece_words(300)


@pytest.mark.parametrize(
    "name", [n for n in SPELLED if n != "phi3"]
)  # its windows are not run there
def test_same_logits(tmp_path: Path, name: str) -> None:
    _, path = write_family_gguf(tmp_path, name, WORDS)
    assert worst_difference(path, len(WORDS.tokens)) < 2e-2
