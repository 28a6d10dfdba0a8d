"""Routers and dispatch by law, and descriptions of experts that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from expert_configs import CONFIGS, write_model
from h2q.core.errors import SourceError, SpecError
from h2q.core.specs import ModelSpec
from h2q.engine import load_original
from h2q.engine.experts import Mixture, Router
from h2q.sources import open_source
from h2q.sources.hf_config import model_spec


def spec_of(name: str, **changes: object) -> ModelSpec:
    kind, fields = CONFIGS[name]
    return model_spec({"model_type": kind, **fields, **changes}, None, "config.json")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_description_survives_json(name: str) -> None:
    spec = spec_of(name)
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_is_answered_alike_whatever_stands_beside_it(name: str, tmp_path: Path) -> None:
    model = load_original(open_source(write_model(tmp_path, name)))
    mixture = model.layers[2].mlp
    if not isinstance(mixture, Mixture):
        mixture = model.layers[1].mlp
    assert isinstance(mixture, Mixture)
    x = np.random.default_rng(0).standard_normal((17, model.spec.hidden_size)).astype(np.float32)
    together, alone = mixture.router(x), [mixture.router(x[i : i + 1]) for i in range(17)]
    np.testing.assert_array_equal(together.experts, np.concatenate([c.experts for c in alone]))
    np.testing.assert_array_equal(together.weights, np.concatenate([c.weights for c in alone]))


def test_groups_bound_the_choice_and_the_correction_only_chooses() -> None:
    spec = spec_of("deepseek_v3").experts
    assert spec is not None
    draw = np.random.default_rng(1)
    gate = draw.standard_normal((8, 32)).astype(np.float32)
    x = draw.standard_normal((200, 32)).astype(np.float32)
    plain = Router(spec, gate, np.zeros(8, np.float32))(x)
    assert all(len(np.unique(row // 2)) <= 2 for row in plain.experts)  # groups of two experts
    np.testing.assert_allclose(plain.weights.sum(axis=1), 2.5, rtol=1e-5)
    favour = np.zeros(8, np.float32)
    favour[5] = 10
    moved = Router(spec, gate, favour)(x)
    assert (moved.experts == 5).any(axis=1).all()
    assert moved.weights.max() < 2.5  # ten does not enter the weights


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("mixtral", {"num_local_experts": 0}, "num_experts"),
        ("mixtral", {"num_local_experts": 1 << 40}, "num_experts"),
        ("mixtral", {"num_experts_per_tok": 6}, "num_experts_per_tok"),
        ("mixtral", {"num_experts_per_tok": True}, "num_experts_per_tok"),
        ("qwen3_moe", {"norm_topk_prob": 1}, "norm_topk_prob"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ("qwen3_moe", {"mlp_only_layers": "all"}, "mlp_only_layers"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 30}, "multiple"),
        ("qwen2_moe", {"shared_expert_intermediate_size": None}, "shared_expert"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek_v2", {"n_group": 3}, "groups"),
        ("deepseek_v2", {"topk_group": 5}, "topk_group"),
        ("deepseek_v2", {"qk_rope_head_dim": 7}, "qk_rope_head_dim"),
        ("deepseek_v2", {"kv_lora_rank": None}, "kv_lora_rank"),
        ("deepseek_v2", {"kv_lora_rank": 1 << 30}, "kv_lora_rank"),
        ("deepseek_v2", {"first_k_dense_replace": -1}, "first_k_dense_replace"),
        ("deepseek_v2", {"attention_bias": True}, "attention_bias"),
        ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func"),
        ("deepseek_v3", {"routed_scaling_factor": float("nan")}, "routed_scaling_factor"),
        ("deepseek_v3", {"n_shared_experts": -1}, "n_shared_experts"),
        ("deepseek_v3", {"num_experts_per_tok": 5}, "cannot give"),
    ],
)
def test_senseless_configs_are_refused(name: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        spec_of(name, **changes)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("experts", {"num_experts": "8"}),
        ("experts", {"mlp_only_layers": [2, 1]}),
        ("experts", {"mlp_only_layers": [3]}),
        ("experts", {"topk_method": ["greedy"]}),
        ("experts", {"extra": 1}),
        ("latent", {"v_head_dim": 0}),
        ("latent", {"qk_nope_head_dim": 14}),
        ("latent", {"extra": 1}),
    ],
)
def test_senseless_descriptions_are_refused(part: str, change: dict[str, object]) -> None:
    data = spec_of("deepseek_v3").to_json()
    with pytest.raises(SpecError):
        ModelSpec.from_json({**data, part: {**data[part], **change}})
    with pytest.raises(SpecError):
        ModelSpec.from_json({**data, part: []})
