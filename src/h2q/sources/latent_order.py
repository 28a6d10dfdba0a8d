"""The order of rotary dimensions in DeepSeek's checkpoints: a pair lies side by side, (0, 1), (2,
3), where the engine turns (0, n / 2), (1, n / 2 + 1). Query and key are compared dimension by
dimension, so both may be put into another order, and nothing changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.core.latent_spec import LatentSpec

FloatArray = npt.NDArray[np.float32]


def half_split(latent: LatentSpec, name: str, weights: FloatArray) -> FloatArray:
    """Float32 (rows, cols) of the tensor `name`, the rows that are turned by a position in
    half-split order; other tensors as they are.
    """
    kind = name.split(".")[-2] if name.endswith(".weight") else ""
    turned = latent.qk_rope_head_dim
    if kind in ("q_proj", "q_b_proj"):
        heads = weights.reshape(-1, latent.qk_head_dim, weights.shape[1])
    elif kind == "kv_a_proj_with_mqa":
        heads = weights[None]
    else:
        return weights
    kept, pairs = heads[:, :-turned], heads[:, -turned:]
    halves = np.concatenate([pairs[:, 0::2], pairs[:, 1::2]], axis=1)
    return np.concatenate([kept, halves], axis=1).reshape(weights.shape)
