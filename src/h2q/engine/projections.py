"""Matrices that read one input together (q/k/v, gate/up, one alone), in three forms: dense, rotated
dense, planes.

One input is rotated and quantized once, however many matrices read it. An observer, when set, sees
every input before it is transformed: calibration is the engine's own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.planes import Plane
from h2q.core.errors import KernelError
from h2q.geometry.rotation import Rotation

FloatArray = npt.NDArray[np.float32]
Observer = Callable[[str, FloatArray], None]


class Projection(Protocol):
    """`names` are the Hugging Face names of the matrices, in the order of the outputs."""

    names: tuple[str, ...]

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        """float32 (T, width) to one float32 (T, rows) per matrix."""
        ...


class DenseProjection:
    """Original weights, float32."""

    def __init__(self, names: Sequence[str], weights: Sequence[FloatArray]) -> None:
        self.names, self.weights = tuple(names), list(weights)

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        return [x @ weight.T for weight in self.weights]


class RotatedProjection:
    """W R^T applied to R x without rounding: the same function as the original. For measuring, not
    for serving.
    """

    def __init__(
        self, names: Sequence[str], weights: Sequence[FloatArray], rotation: Rotation
    ) -> None:
        self.names, self.rotation = tuple(names), rotation
        self.weights = [kernels.rotate(weight, rotation) for weight in weights]

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        turned = kernels.rotate(x, self.rotation)
        return [turned @ weight.T for weight in self.weights]


class PlaneProjection:
    """Coded planes applied to rotated int8 inputs. `stacks` may be exchanged between two tokens.

    Raises KernelError, with the names of the matrices, when an input is not finite.
    """

    def __init__(
        self, names: Sequence[str], stacks: Sequence[tuple[Plane, ...]], rotation: Rotation
    ) -> None:
        self.names, self.stacks, self.rotation = tuple(names), list(stacks), rotation

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        try:
            activations = kernels.rotate_quantize(x, self.rotation)
        except KernelError as error:
            raise error.at("the input of " + ", ".join(self.names)) from error
        return [kernels.matmul_planes(activations, stack) for stack in self.stacks]


class Embedding(Protocol):
    """Token ids int64 (T,) to float32 (T, width)."""

    def __call__(self, ids: npt.NDArray[np.int64]) -> FloatArray: ...


class DenseEmbedding:
    """Original rows, float32."""

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows

    def __call__(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        return self.rows[ids]


class PlaneEmbedding:
    """Rows decoded from planes and rotated back. Shares its planes with a tied head."""

    def __init__(self, stack: tuple[Plane, ...], rotation: Rotation) -> None:
        self.stack, self.rotation = stack, rotation

    def __call__(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        return kernels.unrotate(kernels.gather_rows(self.stack, ids), self.rotation)
