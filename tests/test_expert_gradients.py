"""Derivatives of mixtures and of latent attention at the stream, against differences of the
engine's own forward pass.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import write_model
from h2q.core.architecture import tensors
from h2q.crystallize.gradients import dense
from h2q.crystallize.layer_gradients import layer_back
from h2q.engine.block import run_texts
from h2q.engine.load import OriginalWeights, build_layer
from h2q.engine.projections import DenseMatrix
from h2q.sources import open_source

BATCH, LENGTH, LAYER = 2, 8, 2
STEP = 2e-4  # of the stream: small, so that no token changes its experts


@pytest.mark.parametrize(
    "name", ["mixtral", "qwen2_moe", "qwen3_moe_plain", "gpt_oss", "deepseek_v2", "deepseek_v3"]
)
def test_at_the_stream_and_at_every_output(name: str, tmp_path: Path) -> None:
    spec = (source := open_source(write_model(tmp_path, name))).spec
    layer = build_layer(spec, OriginalWeights(source), 1 if name == "qwen3_moe_plain" else LAYER)
    table = {tensor.name: tensor.reads for tensor in tensors(spec)}
    draw = np.random.default_rng(4)
    x = draw.standard_normal((BATCH * LENGTH, spec.hidden_size)).astype(np.float32)
    ahead = draw.standard_normal(x.shape).astype(np.float32)
    heard: dict[str, np.ndarray] = {}
    back = layer_back(spec, layer, x, ahead, BATCH, heard.__setitem__)
    seen: dict[str, np.ndarray] = {}
    run_texts(spec, layer, x, BATCH, seen.__setitem__)

    def total(moved: np.ndarray) -> float:
        return float(np.sum(run_texts(spec, layer, moved, BATCH).astype(np.float64) * ahead))

    way = back / np.linalg.norm(back)
    step = np.float32(STEP * np.linalg.norm(x))
    slope = (total(x + step * way) - total(x - step * way)) / (2 * step)
    assert slope == pytest.approx(float(np.sum(back.astype(np.float64) * way)), rel=1e-2)
    for matrices in layer.matrices():
        for tensor, weights in zip(matrices.names, dense(matrices), strict=True):
            if tensor not in heard:
                assert ".experts." in tensor  # that no token chose
                continue
            # A matrix moved along grad^T input moves the sum by that product's square.
            reads = table[tensor]
            toward = heard[tensor].T @ seen[reads]
            slope = float(np.sum(toward.astype(np.float64) ** 2))
            if slope < 1e-6:
                continue
            small = np.float32(STEP * np.linalg.norm(weights) / np.linalg.norm(toward))
            kept, held = weights.copy(), isinstance(matrices, DenseMatrix)
            sums = []
            for sign in (1, -1):
                weights += sign * small * toward
                if held:  # it is split anew only for another version
                    matrices.version += 1
                sums.append(total(x))
                weights[:] = kept
            assert (sums[0] - sums[1]) / (2 * small) == pytest.approx(slope, rel=2e-2), tensor
