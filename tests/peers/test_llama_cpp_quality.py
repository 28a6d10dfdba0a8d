"""The other side of the frontier is llama.cpp as it is: the same function, and its quantizer with
the importance matrix we give it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import quality_llama as llama
from h2q.core.architecture import tensors
from h2q.crystallize import compare, sample_text
from h2q.crystallize.export import export_source
from h2q.engine import load_original
from h2q.sources import Source
from h2q.sources.gguf_names import gguf_name

Q2_K = llama.FILE_TYPES[0]


def test_original_and_quantized(seed_source: Source, tmp_path: Path) -> None:
    original = load_original(seed_source)
    texts = sample_text(original, 4, 128, seed=1)
    columns = llama.importance(original, texts)
    spec = seed_source.spec
    for tensor in tensors(spec):
        if tensor.kind != "norm":
            assert columns[gguf_name(tensor.name)].shape == (tensor.shape[1],)
    first, plain, shaped = (tmp_path / f"{name}.gguf" for name in ("f32", "plain", "shaped"))
    export_source(seed_source, first, "seed", "f32")
    llama.silence()
    llama.quantize(first, plain, Q2_K)
    llama.quantize(first, shaped, Q2_K, columns)
    sizes = llama.sizes(plain)
    assert sizes.tensors < sizes.without_words < sizes.file == plain.stat().st_size
    data = [{t.name: t.data for t in GGUFReader(path).tensors} for path in (plain, shaped)]
    name = "blk.0.ffn_up.weight"
    assert not np.array_equal(data[0][name], data[1][name])
    peers = [llama.Peer(path, spec, 128) for path in (first, plain, shaped)]
    found = compare(original, peers, sample_text(original, 8, 128, seed=2))  # type: ignore[arg-type]
    assert found[0].kl_mean < 1e-5
    assert all(0.01 < result.kl_mean < 0.5 for result in found[1:])
    for peer in peers:
        peer.close()
