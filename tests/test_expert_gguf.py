"""GGUF files of models with experts and latents against the Hugging Face form of the same
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from expert_gguf import SPELLED, write_expert_gguf
from gguf_files import sentencepiece_words
from h2q.core.errors import SourceError
from h2q.engine import load_original
from h2q.sources import Source
from h2q.sources.gguf_file import GGUFSource

WORDS = sentencepiece_words(300)
UINT, FLOAT, FLAG = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.BOOL
TEXT = gguf.GGUFValueType.STRING


def same(found: Source, source: Source) -> None:
    for name in found.names():  # type: ignore[attr-defined]
        np.testing.assert_array_equal(found.tensor(name), source.tensor(name), err_msg=name)
    odd = {"attention_multiplier": 0.0, "rope_scaling": None}  # float32 in the file
    assert replace(found.spec, **odd) == replace(source.spec, **odd)
    assert found.spec.attention_multiplier == pytest.approx(source.spec.attention_multiplier)
    tokens = np.random.default_rng(3).integers(0, len(WORDS.tokens), (1, 40))
    first, second = load_original(found), load_original(source)
    logits = first.forward(tokens, first.new_cache())
    expected = second.forward(tokens, second.new_cache())
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits, expected, atol=5e-4)


@pytest.mark.parametrize("name", SPELLED)
def test_both_forms_are_one_model(tmp_path: Path, name: str) -> None:
    source, path = write_expert_gguf(tmp_path, name, WORDS)
    same(GGUFSource(path), source)


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v2", "deepseek_v2_lite"])
def test_files_of_the_first_converters(tmp_path: Path, name: str) -> None:
    """Experts one by one, keys and values expanded together."""
    source, path = write_expert_gguf(tmp_path, name, WORDS, first_form=True)
    same(GGUFSource(path), source)


def test_blocks_of_mxfp4(tmp_path: Path) -> None:
    source, path = write_expert_gguf(tmp_path, "gpt_oss", WORDS, blocks=True)
    same(GGUFSource(path), source)


def test_one_expert_is_read_alone(tmp_path: Path) -> None:
    _, path = write_expert_gguf(tmp_path, "mixtral", WORDS)
    source = GGUFSource(path)
    places = source._places["model.layers.1.block_sparse_moe.experts.3.w2.weight"]
    ((_, place),) = places
    inner, width = source.spec.intermediate_size, source.spec.hidden_size
    assert place.end - place.begin == 4 * inner * width


Change = Callable[[dict[str, np.ndarray]], None]


def lacking(*names: str) -> Change:
    def change(stored: dict[str, np.ndarray]) -> None:
        for name in names:
            del stored[name]

    return change


def with_other(name: str, values: np.ndarray) -> Change:
    return lambda stored: stored.update({name: values})


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("mixtral", lacking("blk.1.ffn_up_exps.weight"), "lacks blk.1.ffn_up_exps"),
        ("mixtral", lacking("blk.1.ffn_gate_inp.weight"), "lacks blk.1.ffn_gate_inp"),
        ("mixtral", with_other("blk.0.ffn_down_exps.weight", np.ones((4, 32, 48))), "shape"),
        ("mixtral", with_other("blk.0.ffn_down_exps.weight", np.ones((5, 48, 32))), "shape"),
        ("mixtral", with_other("blk.0.ffn_down_exps.bias", np.ones((5, 32))), "not know"),
        ("qwen2_moe", with_other("blk.0.ffn_gate_inp_shexp.weight", np.ones(31)), "shape"),
        ("gpt_oss", lacking("blk.2.attn_sinks.weight"), "lacks blk.2.attn_sinks"),
        ("gpt_oss", with_other("blk.0.ffn_up_exps.bias", np.ones((6, 65))), "shape"),
        ("deepseek_v3", lacking("blk.1.attn_k_b.weight"), "lacks blk.1.attn_k_b"),
        ("deepseek_v3", lacking("blk.1.attn_v_b.weight"), "lacks blk.1.attn_v_b"),
        ("deepseek_v3", with_other("blk.1.attn_k_b.weight", np.ones((4, 12, 20))), "shape"),
        ("deepseek_v3", with_other("blk.1.attn_kv_b.weight", np.ones((88, 20))), "not know"),
        ("deepseek_v3", lacking("blk.2.exp_probs_b.bias"), "lacks blk.2.exp_probs_b"),
    ],
)
def test_tensors_that_lie(tmp_path: Path, name: str, change: Change, words: str) -> None:
    _, path = write_expert_gguf(tmp_path, name, WORDS, change=change)
    with pytest.raises(SourceError, match=words):
        GGUFSource(path)


@pytest.mark.parametrize(
    ("name", "key", "value", "kind", "words"),
    [
        ("mixtral", "llama.expert_count", 1 << 31, UINT, "num_experts"),
        ("mixtral", "llama.expert_count", 0, UINT, "lacks|not know"),
        ("mixtral", "llama.expert_count", "8", TEXT, "whole number"),
        ("mixtral", "llama.expert_used_count", 6, UINT, "num_experts_per_tok"),
        ("mixtral", "llama.expert_used_count", 0, UINT, "num_experts_per_tok"),
        ("qwen3_moe", "qwen3moe.expert_used_count", 0, UINT, "num_experts_per_tok"),
        ("qwen3_moe", "qwen3moe.expert_feed_forward_length", 1 << 30, UINT, "moe_intermediate"),
        ("qwen2_moe", "qwen2moe.expert_shared_feed_forward_length", 41, UINT, "multiple"),
        ("qwen2_moe", "qwen2moe.expert_shared_feed_forward_length", 0, UINT, "multiple"),
        ("gpt_oss", "gpt-oss.attention.sliding_window", 0, UINT, "sliding_window"),
        ("gpt_oss", "gpt-oss.block_count", 1 << 31, UINT, "num_hidden_layers|layers"),
        ("deepseek_v3", "deepseek2.attention.key_length_mla", 7, UINT, "qk_nope_head_dim"),
        ("deepseek_v3", "deepseek2.attention.value_length_mla", 0, UINT, "v_head_dim"),
        ("deepseek_v3", "deepseek2.attention.kv_lora_rank", 1 << 31, UINT, "kv_lora_rank"),
        ("deepseek_v3", "deepseek2.rope.dimension_count", 7, UINT, "qk_rope_head_dim"),
        ("deepseek_v3", "deepseek2.expert_gating_func", 4, UINT, "expert_gating_func"),
        ("deepseek_v3", "deepseek2.expert_group_count", 3, UINT, "groups"),
        ("deepseek_v3", "deepseek2.expert_group_used_count", 9, UINT, "topk_group"),
        ("deepseek_v3", "deepseek2.expert_weights_scale", float("nan"), FLOAT, "routed_scaling"),
        ("deepseek_v3", "deepseek2.expert_weights_norm", 1, UINT, "true or false"),
        ("deepseek_v3", "deepseek2.expert_shared_count", 1 << 31, UINT, "n_shared_experts"),
        ("deepseek_v3", "deepseek2.leading_dense_block_count", 1 << 31, UINT, "lacks"),
        ("deepseek_v3", "deepseek2.attention.head_count", 0, UINT, "num_attention_heads"),
        ("deepseek_v3", "deepseek2.rope.scaling.factor", float("inf"), FLOAT, "factor"),
        ("deepseek_v3", "deepseek2.rope.scaling.yarn_log_multiplier", -1e30, FLOAT, "multiplier"),
    ],
)
def test_metadata_that_lie(
    tmp_path: Path, name: str, key: str, value: Any, kind: gguf.GGUFValueType, words: str
) -> None:
    _, path = write_expert_gguf(tmp_path, name, WORDS, keys={key: (value, kind)})
    with pytest.raises(SourceError, match=words) as caught:
        GGUFSource(path)
    assert len(str(caught.value)) < 1000
