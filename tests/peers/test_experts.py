"""Models with experts in float32 against Hugging Face transformers, from the same folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import CONFIGS, write_model
from h2q.engine import load_original
from h2q.sources import open_source
from h2q.sources.hf_stacked import unpack

TOLERANCE = 1e-3
PREFILL = 20


@pytest.mark.parametrize("name", CONFIGS)
def test_prefill_and_steps(name: str, tmp_path: Path) -> None:
    peer = pytest.importorskip("expert_models", reason="transformers is not installed")
    model = load_original(open_source(write_model(tmp_path, name)))
    tokens = np.random.default_rng(5).integers(0, model.spec.vocab_size, (2, 40))
    expected = peer.folder_logits(tmp_path, tokens)
    cache = model.new_cache(2, capacity=4)
    found = [model.forward(tokens[:, :PREFILL], cache)]
    found += [model.forward(tokens[:, i : i + 1], cache) for i in range(PREFILL, 40)]
    distance = float(np.abs(np.concatenate(found, axis=1) - expected).max())
    print(f"{name}: {distance:.1e} of {np.abs(expected).max():.1f}")
    assert np.abs(expected).max() > 1  # else the tolerance says nothing
    assert distance < TOLERANCE


def test_mxfp4_blocks() -> None:
    """Every byte at every finite scale, as transformers unpacks them."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = pytest.importorskip("transformers.integrations.mxfp4")
    draw = np.random.default_rng(2)
    blocks = np.concatenate([np.arange(256), draw.integers(0, 256, 254 * 16 - 256)])
    blocks = blocks.astype(np.uint8).reshape(254, 1, 16)
    scales = np.arange(252 + 2, dtype=np.uint8).reshape(254, 1) % 252
    found = unpack(blocks, scales)
    expected = theirs.convert_moe_packed_tensors(
        torch.from_numpy(blocks[None]), torch.from_numpy(scales[None]), dtype=torch.float32
    )
    np.testing.assert_array_equal(found, expected[0].numpy().T)
