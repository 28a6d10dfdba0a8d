"""Whole decoder layers by the extension: same name, signature and bits as the twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.errors import KernelError
from h2q.kernels.extension import call, native
from h2q.kernels.layer_operands import LayerOperands, StackedLayers, StepRows
from h2q.kernels.native import handle_of, turn
from h2q.kernels.native_pages import pages_of

FloatArray = npt.NDArray[np.float32]

FAULTS = (
    "",
    "the input of attention",
    "the queries, keys or values",
    "the answer of attention",
    "the input of the MLP",
    "the inner values of the MLP",
)


def run_layers(
    stacked: StackedLayers, x: FloatArray, angles: Sequence[FloatArray], rows: StepRows
) -> FloatArray:
    """See h2q.kernels.layer_twins.run_layers."""
    if not stacked.handles:
        stacked.handles.append([_prepared(layer) for layer in stacked.layers])
        stacked.handles.append([pages_of(pages) for pages in stacked.pages])
    out = np.empty(x.shape, np.float32)
    places = (rows.slots, rows.tables, rows.streams, rows.seen)
    layer, fault = call(native.run_layers, *stacked.handles, stacked.turns, x, angles, *places, out)
    if fault:
        raise KernelError(
            f"There is a value that is not a finite number in {FAULTS[fault]}.",
            where=stacked.layers[layer].name,
        )
    return out


def _prepared(layer: LayerOperands) -> Any:
    if layer.handles:
        return layer.handles[0]
    norms = [layer.input_norm, layer.post_norm, layer.q_norm, layer.k_norm]
    norms += [layer.after_attention, layer.after_mlp]
    rule = layer.rule
    handle = call(
        native.Layer,
        [turn(rotation) for rotation in layer.turns],
        [handle_of(stack) for stack in layer.stacks],
        [*norms, *layer.biases],
        layer.heads,
        layer.kv_heads,
        layer.head_dim,
        layer.eps,
        rule.scale,
        rule.window,
        rule.softcap,
        layer.multiplier,
        layer.act != "silu",
    )
    layer.handles.append(handle)
    return handle
