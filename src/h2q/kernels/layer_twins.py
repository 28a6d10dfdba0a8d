"""The NumPy twin of whole decoder layers: the twins of its operations, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.kernels.layer_operands import LayerOperands, StackedLayers, StepRows
from h2q.kernels.paged_twins import store_attend
from h2q.kernels.twins import geglu, project, rms_norm, rope, swiglu

FloatArray = npt.NDArray[np.float32]


def run_layers(
    stacked: StackedLayers, x: FloatArray, angles: Sequence[FloatArray], rows: StepRows
) -> FloatArray:
    """The stream after all layers: float32 (rows, width) to the same. angles: cosines and sines,
    float32 (rows, turned dimensions / 2), one after the other. Raises KernelError when a value is
    not finite.
    """
    for layer, pages, turn in zip(stacked.layers, stacked.pages, stacked.turns, strict=True):
        cos, sin = (None, None) if turn < 0 else (angles[2 * turn], angles[2 * turn + 1])
        x = _run_layer(layer, x, pages, cos, sin, rows)
    return x


def _run_layer(
    layer: LayerOperands,
    x: FloatArray,
    pages: Pages,
    cos: FloatArray | None,
    sin: FloatArray | None,
    rows: StepRows,
) -> FloatArray:
    def answers(x: FloatArray, turn: int, first: int, last: int) -> list[FloatArray]:
        found = project(x, layer.turns[turn], layer.stacks[first:last])
        return [_plus(part, layer.biases[first + i]) for i, part in enumerate(found)]

    def heads(x: FloatArray, gain: FloatArray | None) -> FloatArray:
        out: FloatArray = x.reshape(-1, layer.head_dim)
        out = out if gain is None else rms_norm(out, gain, layer.eps)
        out = out.reshape(len(x), -1, layer.head_dim)
        if cos is None or sin is None:
            return out
        wide = 2 * cos.shape[1]
        turned = rope(np.ascontiguousarray(out[..., :wide]), cos, sin)
        return np.concatenate([turned, out[..., wide:]], axis=-1)

    def added(x: FloatArray, found: FloatArray, gain: FloatArray | None) -> FloatArray:
        found = found if gain is None else rms_norm(found, gain, layer.eps)
        return np.asarray(x + found * np.float32(layer.multiplier), np.float32)

    q, k, v = answers(rms_norm(x, layer.input_norm, layer.eps), 0, 0, 3)
    q, k = heads(q, layer.q_norm), heads(k, layer.k_norm)
    v = v.reshape(len(x), -1, layer.head_dim)
    mixed = store_attend(
        pages, q, k, v, rows.slots, rows.tables, rows.streams, rows.seen, layer.rule
    )
    x = added(x, answers(mixed, 1, 3, 4)[0], layer.after_attention)
    gate, up = answers(rms_norm(x, layer.post_norm, layer.eps), 2, 4, 6)
    inner = swiglu(gate, up) if layer.act == "silu" else geglu(gate, up)
    return added(x, answers(inner, 3, 6, 7)[0], layer.after_mlp)


def _plus(x: FloatArray, bias: FloatArray | None) -> FloatArray:
    return x if bias is None else np.asarray(x + bias, np.float32)
