"""The original, its matrices rotated and rounded to seven bits: what writes a large model's texts,
in a quarter of its memory and of its time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.rounded import RoundedMatrix, rounded
from h2q.core.errors import KernelError, SourceError
from h2q.core.tensor_spec import TensorSpec
from h2q.engine.experts import Dispatch, Experts
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import Embedding, FloatArray, HeldMatrix, Projection
from h2q.geometry.rotation import Rotation, rotation
from h2q.sources import Source


class RoundedWeights:
    """See engine.load.Weights. Each matrix is read and rounded once, one at a time."""

    def __init__(self, source: Source, seed: int) -> None:
        self._source, self._seed = source, seed
        self._rounded: dict[str, RoundedMatrix] = {}

    def raw(self, name: str) -> FloatArray:
        return np.ascontiguousarray(self._source.tensor(name), np.float32)

    def embedding(self, tensor: TensorSpec) -> Embedding:
        return RoundedRows(self._of(tensor.name), self._turn(tensor.shape[1]))

    def projection(self, names: Sequence[str]) -> Projection:
        matrices = {name: self._of(name) for name in names}
        return RoundedProjection(matrices, self._turn(matrices[names[0]].cols))

    def matrix(self, name: str) -> HeldMatrix:
        found = self._of(name)
        return RoundedHeld(name, found, self._turn(found.cols))

    def experts(self, mlps: Sequence[GatedMLP]) -> Experts:
        return Dispatch(mlps)

    def head(self, tensor: TensorSpec) -> Projection:
        return self.projection([tensor.name])

    def _turn(self, width: int) -> Rotation:
        return rotation(self._seed, width)

    def _of(self, name: str) -> RoundedMatrix:
        if name not in self._rounded:
            weights = self.raw(name)
            if not np.isfinite(weights).all():
                raise SourceError("The tensor holds a value that is not finite.", where=name)
            turned = kernels.rotate(weights, self._turn(weights.shape[1]))
            del weights  # large
            self._rounded[name] = rounded(turned)
        return self._rounded[name]


class RoundedProjection:
    """Rounded matrices applied to rotated int8 inputs. Raises KernelError, with the names of the
    matrices, when an input is not finite.
    """

    def __init__(self, matrices: dict[str, RoundedMatrix], turn: Rotation) -> None:
        self.matrices, self.rotation = matrices, turn

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.matrices)

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        try:
            inputs = kernels.rotate_quantize(x, self.rotation)
        except KernelError as error:
            raise error.at("the input of " + ", ".join(self.names)) from error
        return [kernels.matmul_rounded(inputs, matrix) for matrix in self.matrices.values()]


class RoundedRows:
    """Rows of a rounded matrix, rotated back."""

    def __init__(self, matrix: RoundedMatrix, turn: Rotation) -> None:
        self.matrix, self.rotation = matrix, turn

    def __call__(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        return kernels.unrotate(self.matrix.rows(ids), self.rotation)


class RoundedHeld:
    """A rounded matrix that is used as it is, rotated back."""

    version = 0

    def __init__(self, name: str, matrix: RoundedMatrix, turn: Rotation) -> None:
        self.names, self.matrix, self.rotation = (name,), matrix, turn

    def __call__(self, x: FloatArray) -> FloatArray:
        return kernels.unrotate(self.matrix.rows(np.arange(len(self.matrix.scales))), self.rotation)
