"""What gpt-oss has of its own: clamped gates, experts in one tensor, as floats and as MXFP4."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from checkpoints import WEIGHTS, Stored, edit_config, read_stored, write_stored
from expert_configs import draw_tensors, write_model
from gpt_oss import stacked
from h2q import kernels
from h2q.core.errors import SourceError, SpecError
from h2q.core.specs import FULL, SLIDING
from h2q.engine import load_original
from h2q.sources import open_source
from h2q.sources.hf_stacked import unpack
from h2q.sources.precision import precision

EXPERTS = "model.layers.1.mlp.experts"
Change = Callable[[dict[str, Stored]], None]


def test_gates_by_hand() -> None:
    gate, up = np.meshgrid([-9.0, -1, 0, 0.5, 7, 8], [-9.0, -7, -1, 0, 3, 7, 30])
    expected = [
        min(g, 7) / (1 + math.exp(-1.702 * min(g, 7))) * (max(-7, min(u, 7)) + 1)
        for g, u in zip(gate.flat, up.flat, strict=True)
    ]
    found = kernels.clamped_swiglu(gate.astype(np.float32), up.astype(np.float32))
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=2e-6, atol=1e-6)


def test_every_code_of_mxfp4() -> None:
    codes = np.arange(16, dtype=np.uint8)
    blocks = codes[None, None] << 4 | codes[::-1]  # low halves fall, high halves rise
    weights = unpack(blocks, np.array([[128]], np.uint8))
    rising = np.array([0, 1, 2, 3, 4, 6, 8, 12])  # twice the codes' values
    both = np.concatenate([rising, -rising])
    np.testing.assert_array_equal(weights[0, 1::2], both)
    np.testing.assert_array_equal(weights[0, 0::2], both[::-1])
    small = unpack(blocks, np.array([[0]], np.uint8))
    np.testing.assert_array_equal(small, weights * 2.0**-128)
    assert np.isinf(unpack(blocks, np.array([[255]], np.uint8))).all()


def test_blocks_are_the_weights_they_stand_for(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", "gpt_oss", blocks=True)
    source = open_source(path)
    plain = draw_tensors(source.spec)
    drawn = dict(plain)
    stacked(source.spec, plain, blocks=True)
    for name, values in plain.items():
        np.testing.assert_array_equal(source.tensor(name), values)
    name = f"{EXPERTS}.2.up_proj.weight"
    wide = np.abs(drawn[name].reshape(-1, 32)).max(axis=1, keepdims=True)
    off = np.abs((plain[name] - drawn[name]).reshape(-1, 32))
    assert (off <= wide / 3).all()
    assert off.max() > 0
    assert precision(source.files()).startswith("MXFP4")
    model = load_original(source)
    assert np.isfinite(model.forward(np.array([[3, 4, 5]]), model.new_cache())).all()


def test_a_config_without_its_defaults(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", "gpt_oss")
    spec = open_source(path).spec
    assert spec.layer_types == (SLIDING, FULL, SLIDING)
    assert spec.qkv_bias
    assert spec.o_bias
    edit_config(path, rope_scaling=None)
    changed = open_source(path).spec
    assert changed.rope_scaling is not None
    assert (changed.rope_scaling.factor, changed.rope_scaling.truncate) == (32.0, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"swiglu_limit": 5.0}, "swiglu_limit"),
        ({"swiglu_alpha": 1}, "swiglu_alpha"),
        ({"hidden_act": "gelu_new"}, "hidden_act"),
        ({"num_local_experts": 7}, "shape"),
        ({"layer_types": ["full_attention"]}, "every layer"),
        ({"sliding_window": -3}, "sliding_window"),
        ({"attention_bias": "yes"}, "qkv_bias"),
        ({"attention_bias": False}, "does not ask for"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
    ],
)
def test_configs_that_lie(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = write_model(tmp_path / "m", "gpt_oss")
    edit_config(path, **changes)
    with pytest.raises(SourceError, match=words):
        open_source(path)


def _drop(end: str) -> Change:
    def change(stored: dict[str, Stored]) -> None:
        for name in [name for name in stored if name.endswith(end)]:
            del stored[name]

    return change


def _turned(stored: dict[str, Stored]) -> None:
    name = f"{EXPERTS}.down_proj_blocks"
    found = stored[name]
    stored[name] = replace(found, shape=(*found.shape[:-2], found.shape[-1], found.shape[-2]))


def _twice(stored: dict[str, Stored]) -> None:
    stored[f"{EXPERTS}.down_proj"] = Stored.floats(np.zeros((6, 64, 32)))


def _signed(stored: dict[str, Stored]) -> None:
    name = f"{EXPERTS}.down_proj_scales"
    stored[name] = replace(stored[name], dtype="I8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop("gate_up_proj_scales"), "come together"),
        (_drop("down_proj_blocks"), "come together"),
        (_drop("down_proj_bias"), "lacks"),
        (_drop("router.bias"), "lacks"),
        (_drop("sinks"), "lacks"),
        (_turned, "shape"),
        (_twice, "stored twice"),
        (_signed, "I8"),
    ],
)
def test_checkpoints_that_lie(tmp_path: Path, change: Change, words: str) -> None:
    path = write_model(tmp_path / "m", "gpt_oss", blocks=True)
    stored = read_stored(path / WEIGHTS)
    change(stored)
    write_stored(path / WEIGHTS, stored)
    with pytest.raises(SourceError, match=words):
        open_source(path)


def test_scales_that_are_no_numbers(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", "gpt_oss", blocks=True)
    stored = read_stored(path / WEIGHTS)
    name = f"{EXPERTS}.down_proj_scales"
    stored[name] = replace(stored[name], data=b"\xff" * len(stored[name].data))
    write_stored(path / WEIGHTS, stored)
    source = open_source(path)
    with pytest.raises(SourceError, match="not finite") as caught:
        source.tensor(f"{EXPERTS}.0.down_proj.weight")
    assert "down_proj_blocks" in str(caught.value)


def test_clamped_gates_belong_to_experts(tmp_path: Path) -> None:
    spec = open_source(write_model(tmp_path / "m", "gpt_oss")).spec
    assert spec.experts is not None
    with pytest.raises(SpecError, match="clamped_silu"):
        replace(spec, experts=replace(spec.experts, mlp_only_layers=(1,)))
    with pytest.raises(SpecError, match="attention_sinks"):
        replace(spec, attention_sinks=1)
