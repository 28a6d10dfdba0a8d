"""Experts of gpt-oss as its checkpoints store them, from one tensor for each expert's matrix."""

from __future__ import annotations

import numpy as np

from checkpoints import Stored, to_float8
from h2q.core.specs import ModelSpec

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
WHOLE = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
Tensors = dict[str, np.ndarray]


def stacked(spec: ModelSpec, plain: Tensors, blocks: bool = False) -> dict[str, Stored]:
    """All tensors as stored; `blocks`: experts' matrices as MXFP4, those in `plain` changed to what
    the blocks stand for.
    """
    stored = {n: Stored.floats(v) for n, v in plain.items() if ".experts." not in n}
    for index in range(spec.num_hidden_layers):
        room = f"model.layers.{index}.mlp.experts"
        for whole, parts in WHOLE.items():
            for end in ("bias", "weight"):
                rows = [_of_all(spec, plain, room, part, end) for part in parts]
                every = np.stack(rows, axis=2).reshape(len(rows[0]), -1, *rows[0].shape[2:])
                if end == "bias":
                    stored[f"{room}.{whole}_bias"] = Stored.floats(every)
                elif not blocks:
                    stored[f"{room}.{whole}"] = Stored.floats(every.transpose(0, 2, 1))
                else:
                    codes, scales, meant = to_mxfp4(every)
                    stored[f"{room}.{whole}_blocks"] = Stored("U8", codes.shape, codes.tobytes())
                    stored[f"{room}.{whole}_scales"] = Stored("U8", scales.shape, scales.tobytes())
                    for place, part in enumerate(parts):
                        for expert, matrix in enumerate(meant):
                            name = f"{room}.{expert}.{part}.weight"
                            plain[name] = matrix[place :: len(parts)]
    return stored


def _of_all(spec: ModelSpec, plain: Tensors, room: str, part: str, end: str) -> np.ndarray:
    """(experts, rows, ...)."""
    count = range(spec.experts.num_experts)
    return np.stack([plain[f"{room}.{expert}.{part}.{end}"] for expert in count])


def to_mxfp4(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks uint8 (..., n / 32, 16), scales uint8 (..., n / 32) of values (..., n), and what they
    stand for.
    """
    split = values.reshape(*values.shape[:-1], -1, 32)
    powers = np.ceil(np.log2(np.abs(split).max(axis=-1, keepdims=True) / 6))
    scale = np.exp2(powers)
    codes = to_float8(split / scale, FP4)
    meant = (FP4[codes] * scale).reshape(values.shape).astype(np.float32)
    return codes[..., 0::2] | codes[..., 1::2] << 4, (powers[..., 0] + 127).astype(np.uint8), meant
