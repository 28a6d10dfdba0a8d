"""Logits and greedy tokens of GGUF files with experts, ours and llama.cpp's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from expert_gguf import write_expert_gguf
from gguf_files import sentencepiece_words

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from llama_logits import worst_difference

WORDS = sentencepiece_words(300)
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
    worst = worst_difference(path, len(WORDS.tokens))
    print(f"{name}: {worst:.1e}")
    assert worst < 1e-3
