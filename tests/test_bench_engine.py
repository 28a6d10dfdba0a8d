"""The benchmark of the engine runs end to end on a small shape, and its peer's files are sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from h2q import kernels
from h2q.bench import EngineOptions, bench_engine
from h2q.bench.engine_runs import Engine, Prompts
from h2q.bench.llama_files import HALVES, MIXES, random_blocks, write_llama
from h2q.bench.llama_peer import installed
from h2q.bench.native_clock import NativeClock
from h2q.bench.random_model import LLAMA, SHAPES, RandomWeights
from h2q.core.architecture import coded
from h2q.core.errors import UsageError

SPEC = SHAPES["trial"]
native = pytest.mark.skipif(kernels.path() == kernels.NUMPY, reason="speed is measured natively")


@native
def test_all_rows_of_our_side() -> None:
    only = ("prefill", "streams", "outside", "memory")
    if installed():
        pytest.skip("a peer is installed; its threads take what tests do not have")
    found = bench_engine(EngineOptions("trial", only, 1))
    assert "bench-peers" in found["peer"]
    rows = found["results"]
    assert set(rows) == {
        "prefill of 32, 2 bits",
        "prefill of 32, 2+2 bits",
        "3 streams at once, 2 bits",
        "a step outside native code, 2 bits",
        "resident memory, 2 bits, context 256",
    }
    assert all(row["value"] > 0 and "target" not in row for row in rows.values())
    assert 0 < rows["a step outside native code, 2 bits"]["ratio"] < 1
    memory = found["memory"]
    assert memory["peak"] == sum(memory[part] for part in ("weights", "cache", "above"))
    assert 0 < memory["before"] <= memory["peak"]
    calls = {name: told["calls"] for name, told in found["native"].items()}
    assert calls["run_layers"] == 1


@native
def test_decoding_and_drafts(seed_path: Path) -> None:
    if installed():
        pytest.skip("a peer is installed; its threads take what tests do not have")
    options = EngineOptions("trial", ("decoding", "drafts"), 1, crystal=seed_path)
    found = bench_engine(options)
    assert set(found["results"]) == {
        "decoding, 2 bits",
        "decoding, 2+2 bits",
        "drafts of 2, 2 bits for 2+2",
        "drafts at their best, 2 bits for 2+2",
    }
    assert 1 <= found["drafts"]["tokens"][2] <= 3
    assert found["drafts"]["draft_bits"] < found["drafts"]["all_bits"]


@native
def test_the_clock_sees_what_runs_and_steps_aside() -> None:
    from h2q.kernels import native as operations

    before, clock = operations.native, NativeClock()
    engine = Engine(RandomWeights(SPEC, (2,)).model(1), 64)
    with clock.running():
        engine.decode([Prompts(SPEC).next(4)], 2)
    assert operations.native is before
    assert clock.calls["run_layers"] == 3
    assert 0 < clock.seconds["run_layers"] < clock.total


def test_random_weights_count_their_bytes() -> None:
    weights = RandomWeights(SPEC)
    coded_weights = sum(part.shape[0] * part.shape[1] for part in coded(SPEC))
    assert weights.byte_count(1) >= coded_weights / 4
    assert weights.byte_count(2) > 1.9 * weights.byte_count(1)
    whole, read = len(weights.stacked(1)), len(weights.read_per_token(1))
    assert len(weights.in_layers(1)) == 7 * SPEC.num_hidden_layers < read < whole
    tokens = np.array([[3, 4]])
    model = weights.model(2)
    logits = model.forward(tokens, model.new_cache())
    assert 0.1 < logits.std() < 10


@pytest.mark.parametrize("kind", list(HALVES))
def test_random_blocks_are_weights_of_a_sane_size(kind: str) -> None:
    blocks = random_blocks(np.random.default_rng(0), kind, 64, 1024)
    weights = dequantize(blocks, GGMLQuantizationType[kind])
    assert weights.shape == (64, 1024)
    assert 0.5 < weights.std() * 32 < 2
    assert abs(weights.mean()) < 0.5 * weights.std()


@pytest.mark.parametrize("mix", list(MIXES))
def test_files_of_the_peer(mix: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_llama(path, SPEC, mix)
    reader = GGUFReader(path)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert len(kinds) == 3 + 9 * SPEC.num_hidden_layers
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.ffn_up.weight"] == mix.removesuffix("_M")


def test_the_finer_layers_of_a_medium_mix() -> None:
    kind = MIXES["Q4_K_M"].kind
    name = "model.layers.0.mlp.down_proj.weight"
    fine = [i for i in range(LLAMA.num_hidden_layers) if kind(LLAMA, name, i) == "Q6_K"]
    assert fine == [0, 1, 4, 7, 10, 13, 14, 15]


@pytest.mark.parametrize("wrong", [{"shape": "llama-9b"}, {"only": ("speed",)}])
def test_what_does_not_exist_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Known:"):
        EngineOptions(**wrong)  # type: ignore[arg-type]
