"""A whole decoder layer as one operation, sent to the active path. Formulas: `layer_twins`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.kernels import layer_twins, native_layer
from h2q.kernels.layer_operands import LayerOperands, StepRows
from h2q.kernels.paths import NUMPY, path

FloatArray = npt.NDArray[np.float32]


def run_layer(
    layer: LayerOperands,
    x: FloatArray,
    pages: Pages,
    cos: FloatArray | None,
    sin: FloatArray | None,
    rows: StepRows,
) -> FloatArray:
    """The stream after a layer, its keys and values kept in the pages: float32 (rows, width) to the
    same. cos, sin: float32 (rows, turned dimensions / 2), None where nothing turns. Raises
    KernelError when a value is not finite.
    """
    implementation = layer_twins if path() == NUMPY else native_layer
    out: FloatArray = implementation.run_layer(layer, x, pages, cos, sin, rows)
    return out
