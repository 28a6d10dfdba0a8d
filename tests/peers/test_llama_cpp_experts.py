"""Logits and greedy tokens of GGUF files with experts, ours and llama.cpp's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expert_gguf import write_expert_gguf
from gguf_files import sentencepiece_words
from h2q.engine import load_original
from h2q.sources.gguf_file import GGUFSource

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

WORDS = sentencepiece_words(300)
PROMPT, COUNT = 20, 16
# llama.cpp ranks every family's groups by their two best experts, so V2 has one group here; a model
# of DeepSeek without q_lora_rank needs 27 layers there, and is left out.
CASES: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "qwen2_moe": {},
    "qwen3_moe": {},
    "gpt_oss": {},
    "deepseek_v2": {"topk_method": "greedy", "n_group": 1, "topk_group": 1},
    "deepseek_v3": {},
}


@pytest.mark.parametrize("name", CASES)
def test_same_logits(tmp_path: Path, name: str) -> None:
    _, path = write_expert_gguf(tmp_path, name, WORDS, **CASES[name])
    theirs = llama_cpp.Llama(
        str(path), n_ctx=64, logits_all=True, flash_attn=False, type_k=0, type_v=0, verbose=False
    )
    model = load_original(GGUFSource(path))
    tokens = np.random.default_rng(5).integers(0, len(WORDS.tokens), PROMPT).tolist()
    worst = 0.0
    try:
        theirs.eval(tokens)
        for _ in range(COUNT):
            ours = model.forward(np.array([tokens]), model.new_cache(), last=True)[0, -1]
            row = np.array(theirs.scores[len(tokens) - 1])
            worst = max(worst, float(np.abs(ours - row).max() / max(1.0, np.abs(row).max())))
            second, first = np.sort(row)[-2:]
            if first - second > 1e-2:
                assert int(ours.argmax()) == int(row.argmax())
            tokens.append(int(row.argmax()))
            theirs.eval(tokens[-1:])
    finally:
        theirs.close()
    print(f"{name}: {worst:.1e}")
    assert worst < 1e-3
