"""A whole decoder layer by the extension: same name, signature and bits as the twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.core.errors import KernelError
from h2q.kernels.extension import call, native
from h2q.kernels.layer_operands import LayerOperands, StepRows
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


def run_layer(
    layer: LayerOperands,
    x: FloatArray,
    pages: Pages,
    cos: FloatArray | None,
    sin: FloatArray | None,
    rows: StepRows,
) -> FloatArray:
    """See h2q.kernels.layer_twins.run_layer."""
    handle = layer.handles[0] if layer.handles else _prepared(layer)
    out = np.empty(x.shape, np.float32)
    places = (rows.slots, rows.tables, rows.streams, rows.seen)
    fault = call(native.run_layer, handle, pages_of(pages), x, cos, sin, *places, out)
    if fault:
        raise KernelError(f"There is a value that is not a finite number in {FAULTS[fault]}.")
    return out


def _prepared(layer: LayerOperands) -> Any:
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
