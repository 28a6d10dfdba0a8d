"""Our fp8 tables and block scales against PyTorch's, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from h2q.sources.float8 import TABLES, Float8, scale, widen

KINDS = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


@pytest.mark.parametrize("dtype", sorted(KINDS))
def test_every_code(dtype: str) -> None:
    theirs = torch.arange(256, dtype=torch.uint8).view(KINDS[dtype]).to(torch.float32).numpy()
    ours = TABLES[dtype]
    finite = ~np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), ~finite)
    assert np.array_equal(ours[finite].view(np.uint32), theirs[finite].view(np.uint32))


@pytest.mark.parametrize("shape", [(256, 384), (200, 300), (7, 129)])
def test_blocks_of_128(shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(3)
    stored = torch.randn(shape, generator=random).mul(40).to(torch.float8_e4m3fn)
    scales = torch.rand([-(-size // 128) for size in shape], generator=random)
    spread = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    theirs = stored.to(torch.float32) * spread[: shape[0], : shape[1]]
    ours = widen(stored.view(torch.uint8).numpy(), "F8_E4M3")
    scale(ours, scales.numpy(), (128, 128))
    assert Float8((128, 128)).grid(shape, tuple(scales.shape)) == (128, 128)
    assert np.array_equal(ours.view(np.uint32), theirs.numpy().view(np.uint32))
