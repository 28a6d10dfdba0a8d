"""Every family on tiny random weights: golden logits of transformers
(tests/golden/make_families.py), caches, rotations, and what is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from families import SPECIAL, config_of, write_family
from h2q import kernels
from h2q.core.errors import SourceError
from h2q.core.specs import ModelSpec
from h2q.crystallize.balance import BalancedSource
from h2q.engine import load_original
from h2q.engine.load import load_rotated
from h2q.sources import open_source
from h2q.sources.hf_config import model_spec

GOLDEN = np.load(Path(__file__).parent / "golden" / "families.npz")


@pytest.mark.parametrize("name", SPECIAL)
def test_golden_logits(tmp_path: Path, name: str) -> None:
    source = write_family(tmp_path / name, name)
    model, tokens, expected = load_original(source), GOLDEN["tokens"], GOLDEN[name]
    whole = model.forward(tokens, model.new_cache())
    assert np.abs(whole[0, -len(expected) :] - expected).max() < 1e-3
    cache = model.new_cache(capacity=4)
    steps = [model.forward(tokens[:, :3], cache)]
    steps += [model.forward(tokens[:, i : i + 1], cache) for i in range(3, tokens.shape[1])]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, atol=1e-4)
    rotated = load_rotated(source, seed=3)
    np.testing.assert_allclose(rotated.forward(tokens, rotated.new_cache()), whole, atol=2e-4)
    with kernels.using("numpy"):
        twin = model.forward(tokens, model.new_cache())
    np.testing.assert_array_equal(twin, whole)


@pytest.mark.parametrize("name", SPECIAL)
def test_balancing_changes_nothing(tmp_path: Path, name: str) -> None:
    source = write_family(tmp_path / name, name)
    tokens = GOLDEN["tokens"]
    model, balanced = load_original(source), load_original(BalancedSource(source))
    expected = model.forward(tokens, model.new_cache())
    found = balanced.forward(tokens, balanced.new_cache())
    np.testing.assert_allclose(found, expected, atol=2e-4)
    name = "model.layers.0.self_attn.v_proj.weight"
    assert np.abs(BalancedSource(source).tensor(name) - source.tensor(name)).max() > 1e-2


@pytest.mark.parametrize("name", SPECIAL)
def test_a_description_comes_back(name: str) -> None:
    spec = model_spec(config_of(name), None, "config.json")
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_spellings_of_one_model() -> None:
    """transformers 5 puts all rotary numbers into rope_parameters, and names every layer's type."""
    old = model_spec(config_of("gemma3"), None, "config.json")
    new = config_of("gemma3")
    for key in ("rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern"):
        del new[key]
    new["layer_types"] = ["sliding_attention", "sliding_attention", "full_attention"]
    new["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    assert model_spec(new, None, "config.json") == old


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("llama", {"attn_logit_softcapping": 30.0}, "cannot run"),
        ("llama", {"num_local_experts": 8}, "cannot run"),
        ("llama", {"partial_rotary_factor": 0.5}, "cannot run"),
        ("mistral", {"attention_bias": True}, "cannot run"),
        ("qwen2", {"mlp_bias": True}, "cannot run"),
        ("qwen2", {"max_window_layers": "all"}, "max_window_layers"),
        ("qwen2", {"layer_types": ["linear_attention"] * 2}, "layer's type"),
        ("qwen2", {"layer_types": ["sliding_attention"]}, "every layer"),
        ("qwen2", {"layer_types": {}}, "every layer"),
        ("qwen2", {"sliding_window": -1, "max_window_layers": 0}, "sliding_window"),
        ("llama3", {"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "cannot run"),
        ("llama3", {"rope_scaling": {"rope_type": "llama3", "factor": 0}}, "number"),
        ("llama3", {"rope_scaling": {"type": "linear", "mrope_section": [1]}}, "cannot run"),
        ("llama3", {"rope_scaling": {"type": ["linear"]}}, "cannot run"),
        ("llama3", {"rope_scaling": "linear"}, "object"),
        ("qwen2_yarn", {"rope_scaling": {"type": "yarn", "factor": 10**400}}, "bounds"),
        ("phi3", {"rope_scaling": {"type": "su", "short_factor": [1.0] * 9}}, "frequencies"),
        ("phi3", {"rope_scaling": {"type": "su", "short_factor": ["1"] * 8}}, "number"),
        ("phi3", {"rope_scaling": {"type": "su", "short_factor": [1.0] * 100_000}}, "short list"),
        ("phi4", {"partial_rotary_factor": 2}, "partial_rotary_factor"),
        ("phi4", {"partial_rotary_factor": 0.19}, "even"),
        ("gemma2", {"query_pre_attn_scalar": -1}, "query_pre_attn_scalar"),
        ("gemma2", {"final_logit_softcapping": "no"}, "number"),
        ("gemma2", {"hidden_activation": "relu"}, "cannot run"),
        ("gemma2", {"sliding_window": None}, "sliding_window"),
        ("gemma3", {"use_bidirectional_attention": True}, "cannot run"),
        ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern"),
        ("gemma3", {"num_hidden_layers": 10**12}, "whole number"),
        ("granite", {"residual_multiplier": 0}, "number"),
        ("granite", {"logits_scaling": float("nan")}, "number"),
        ("smollm3", {"no_rope_layers": [1]}, "every layer"),
        ("smollm3", {"num_hidden_layers": 10**12}, "out of bounds"),
    ],
)
def test_configs_that_lie(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        model_spec(config_of(name, **changes), None, "config.json")
    assert len(str(caught.value)) < 1000
    assert caught.value.where == "config.json"


def test_a_bias_that_nobody_asks_for(tmp_path: Path) -> None:
    """Weights with biases under a config without: the model would be another."""
    source = write_family(tmp_path / "m", "llama")
    assert source.spec.qkv_bias
    path = tmp_path / "m" / "config.json"
    path.write_text(path.read_text().replace('"attention_bias": true', '"attention_bias": false'))

    with pytest.raises(SourceError, match="does not ask for"):
        open_source(tmp_path / "m")
