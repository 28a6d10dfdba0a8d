"""Whole decoder layers as one operation, sent to the active path. Formulas: `layer_twins`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from h2q.kernels import layer_twins, native_layer
from h2q.kernels.layer_operands import StackedLayers, StepRows
from h2q.kernels.paths import NUMPY, path

FloatArray = npt.NDArray[np.float32]


def run_layers(
    stacked: StackedLayers, x: FloatArray, angles: Sequence[FloatArray], rows: StepRows
) -> FloatArray:
    """The stream after all layers, their keys and values kept in the pages: float32 (rows, width)
    to the same. angles: cosines and sines, float32 (rows, turned dimensions / 2), one after the
    other. Raises KernelError when a value is not finite.
    """
    implementation = layer_twins if path() == NUMPY else native_layer
    out: FloatArray = implementation.run_layers(stacked, x, angles, rows)
    return out
