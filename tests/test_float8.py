"""fp8 checkpoints: codes and scales against other formulas, and a whole model read through them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import WEIGHTS, Stored, edit_config, float8_folder, read_stored, write_stored
from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.sources import Source, open_source
from h2q.sources.float8 import TABLES, Float8, read_float8, scale, widen

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed"
DEEPSEEK = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {
        "group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    },
}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "model"))


def test_e5m2_is_the_upper_byte_of_half_precision() -> None:
    halves = (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
    assert np.array_equal(TABLES["F8_E5M2"], halves, equal_nan=True)
    assert np.array_equal(np.signbit(TABLES["F8_E5M2"]), np.arange(256) > 127)


def test_e4m3_by_its_definition() -> None:
    table = TABLES["F8_E4M3"]
    for code in range(128):
        power, fraction = code >> 3, code & 7
        value = fraction / 512 if power == 0 else (8 + fraction) / 8 * 2.0 ** (power - 7)
        if code == 127:
            assert np.isnan(table[[code, code + 128]]).all()
        else:
            assert (table[code], table[code + 128]) == (value, -value)
    assert table[0x7E] == 448
    assert np.signbit(table[0x80])


@pytest.mark.parametrize("shape", [(128, 128), (129, 300), (5, 7), (256, 1), (1, 257)])
@pytest.mark.parametrize("block", [(128, 128), (64, 32), (1, 128), (128, 1)])
def test_blocks_element_by_element(shape: tuple[int, int], block: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, 127, shape, np.uint8)
    scales = random.uniform(0.1, 2, [-(-s // b) for s, b in zip(shape, block, strict=True)])
    scales = scales.astype(np.float32)
    values = widen(codes, "F8_E4M3")
    expected = np.array(
        [
            [values[i, j] * scales[i // block[0], j // block[1]] for j in range(shape[1])]
            for i in range(shape[0])
        ]
    )
    grid = Float8(block).grid(shape, scales.shape)
    assert grid == block
    scale(values, scales, grid)
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    ("config", "dtype", "bound"),
    [
        (DEEPSEEK, "F8_E4M3", 0.04),
        ({**DEEPSEEK, "weight_block_size": [64, 32]}, "F8_E4M3", 0.04),
        ({**DEEPSEEK, "fmt": "e5m2"}, "F8_E5M2", 0.08),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "F8_E4M3", 0.04),
        ({"quant_method": "fbgemm_fp8", "rows": True}, "F8_E4M3", 0.04),
        ({**COMPRESSED, "rows": True}, "F8_E4M3", 0.04),
    ],
)
def test_a_model_in_fp8(
    model: Path, seed_source: Source, config: dict[str, Any], dtype: str, bound: float
) -> None:
    """The relative error (root mean square) stays below that of rounding to so few bits."""
    float8_folder(model, config, dtype, TABLES[dtype])
    source = open_source(model)
    for tensor in tensors(source.spec):
        found, original = source.tensor(tensor.name), seed_source.tensor(tensor.name)
        assert found.dtype == np.float32
        if tensor.kind == "linear":
            error = np.sqrt(np.mean((found - original) ** 2) / np.mean(original**2))
            assert 0.001 < error < bound, (tensor.name, error)
        else:
            assert np.array_equal(found, original)


def test_a_tied_head_that_is_stored(model: Path, seed_source: Source) -> None:
    assert seed_source.spec.tie_word_embeddings
    stored = read_stored(model / WEIGHTS)
    assert HEAD not in stored
    write_stored(model / WEIGHTS, {**stored, HEAD: stored[EMBEDDING]})
    found = open_source(model).tensor(EMBEDDING)
    assert np.array_equal(found, seed_source.tensor(EMBEDDING))
    own = bytearray(stored[EMBEDDING].data)
    own[-1] ^= 1
    other = Stored("BF16", stored[EMBEDDING].shape, bytes(own))
    write_stored(model / WEIGHTS, {**stored, HEAD: other})
    with pytest.raises(SourceError, match="another head"):
        open_source(model).tensor(EMBEDDING)
    write_stored(model / WEIGHTS, {**stored, HEAD: Stored("BF16", (1, 1), b"\0\0")})
    with pytest.raises(SourceError, match="another head"):
        open_source(model).tensor(EMBEDDING)


def test_a_head_of_its_own(model: Path) -> None:
    edit_config(model, tie_word_embeddings=False)
    with pytest.raises(SourceError, match="tie_word_embeddings"):
        open_source(model)
    stored = read_stored(model / WEIGHTS)
    head = Stored.floats(np.ones(stored[EMBEDDING].shape, np.float32))
    write_stored(model / WEIGHTS, {**stored, HEAD: head})
    assert open_source(model).tensor(HEAD).max() == 1


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "gptq"},
        {"quant_method": "fp8", "fmt": "e3m4"},
        {"quant_method": "fp8", "weight_block_size": [128]},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": "fp8", "weight_block_size": [True, 128]},
        {"quant_method": "fp8", "weight_block_size": [1 << 40, 1]},
        {"quant_method": "fp8", "weight_block_size": "128"},
        {"quant_method": ["fp8"]},
        {**COMPRESSED, "format": "pack-quantized"},
        {**COMPRESSED, "config_groups": {}},
        {**COMPRESSED, "config_groups": {"a": None}},
        {**COMPRESSED, "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}}}},
        {**COMPRESSED, "sparsity_config": {"format": "sparse-24-bitmask"}},
        {**COMPRESSED, "transform_config": {"config_groups": {"a": {}}}},
        "fp8",
        [],
    ],
)
def test_other_quantizations_are_refused_by_name(config: Any) -> None:
    with pytest.raises(SourceError, match=r"quantization_config|block"):
        read_float8({"quantization_config": config}, "config.json")


NAME = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({NAME + "_scale_inv": None}, "0 tensors of scales"),
        ({NAME + "_scale": np.ones(())}, "2 tensors of scales"),
        ({NAME + "_scale_inv": np.ones((1, 1, 1))}, "do not belong"),
        ({NAME + "_scale_inv": np.ones((999, 1))}, "do not belong"),
        ({EMBEDDING + "_scale": np.ones(())}, "1 tensors of scales"),
    ],
)
def test_scales_that_do_not_fit(model: Path, changes: dict[str, Any], words: str) -> None:
    float8_folder(model, DEEPSEEK, "F8_E4M3", TABLES["F8_E4M3"])
    stored = read_stored(model / WEIGHTS)
    for name, values in changes.items():
        stored.pop(name, None)
        if values is not None:
            stored[name] = Stored.floats(values)
    write_stored(model / WEIGHTS, stored)
    with pytest.raises(SourceError, match=words):
        open_source(model)


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_a_code_that_is_no_number_names_its_tensor(model: Path, code: int) -> None:
    float8_folder(model, DEEPSEEK, "F8_E4M3", TABLES["F8_E4M3"])
    stored = read_stored(model / WEIGHTS)
    weight = stored[NAME]
    stored[NAME] = Stored(weight.dtype, weight.shape, weight.data[:-1] + bytes([code]))
    write_stored(model / WEIGHTS, stored)
    with pytest.raises(SourceError, match=f"not finite.*{NAME}"):
        open_source(model).tensor(NAME)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1.0, "below zero"),
        (np.inf, "not finite"),
        (3e38, "scale_inv"),
        (1e5, "no weight is beyond .*weight] "),
    ],
)
def test_a_scale_that_is_none(model: Path, value: float, words: str) -> None:
    float8_folder(model, DEEPSEEK, "F8_E4M3", TABLES["F8_E4M3"])
    stored = read_stored(model / WEIGHTS)
    name = NAME + "_scale_inv"
    stored[name] = Stored.floats(np.full(stored[name].shape, value))
    write_stored(model / WEIGHTS, stored)
    with pytest.raises(SourceError, match=words):
        open_source(model).tensor(NAME)


def test_fp8_that_the_config_does_not_announce(model: Path) -> None:
    float8_folder(model, DEEPSEEK, "F8_E4M3", TABLES["F8_E4M3"])
    edit_config(model, quantization_config=None)
    with pytest.raises(SourceError, match="does not announce"):
        open_source(model)
