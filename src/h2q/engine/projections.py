"""Matrices that read one input together (q/k/v, gate/up, one alone), in three forms: dense, rotated
dense, planes.

One input is rotated and quantized once, however many matrices read it. An observer, when set, sees
every input before it is transformed: calibration is the engine's own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.planes import Plane
from h2q.core.errors import KernelError
from h2q.geometry.rotation import Rotation

FloatArray = npt.NDArray[np.float32]
ROWS_AT_ONCE = 256
Observer = Callable[[str, FloatArray], None]
FEW_TOKENS, LARGE_MATRIX = 256, 1 << 20


class Matrices(Protocol):
    """Some matrices of one input, whatever they are used for."""

    @property
    def names(self) -> tuple[str, ...]: ...


class Projection(Protocol):
    """`names` are the Hugging Face names of the matrices, in the order of the outputs."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        """float32 (T, width) to one float32 (T, rows) per matrix."""
        ...


class HeldMatrix(Protocol):
    """One matrix that is used as it is, not only multiplied by its input."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def version(self) -> int:
        """Another number whenever the matrix has changed."""
        ...

    def __call__(self, x: FloatArray) -> FloatArray:
        """float32 (rows, cols), not to be changed. x: float32 (T, cols), what it would be
        multiplied by.
        """
        ...


class Apply:
    """Projections, with an observer that is shown what each is multiplied by."""

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer

    def show(self, reads: str, x: FloatArray) -> None:
        """Show an input, float32 (T, width)."""
        if self.observer is not None:
            self.observer(reads, x)

    def __call__(
        self,
        reads: str,
        projection: Projection,
        x: FloatArray,
        biases: Sequence[FloatArray] = (),
    ) -> list[FloatArray]:
        """The projection's answers, once its input was shown; biases: one for each, or none."""
        self.show(reads, x)
        answers = projection(x)
        if not biases:
            return answers
        return [answer + bias for answer, bias in zip(answers, biases, strict=True)]


class DenseProjection:
    """Original weights, float32."""

    def __init__(self, names: Sequence[str], weights: Sequence[FloatArray]) -> None:
        self._names, self.weights = tuple(names), list(weights)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        return [_product(x, weight) for weight in self.weights]


def _product(x: FloatArray, weight: FloatArray) -> FloatArray:
    """x W^T. BLAS packs the right factor anew at every call: a large one stands left of a few
    tokens.
    """
    if len(x) < FEW_TOKENS and weight.size >= LARGE_MATRIX:
        return np.ascontiguousarray((weight @ x.T).T)
    return np.asarray(x @ weight.T)


class RotatedProjection(DenseProjection):
    """W R^T applied to R x without rounding: the same function as the original. For measuring, not
    for serving.
    """

    def __init__(
        self, names: Sequence[str], weights: Sequence[FloatArray], rotation: Rotation
    ) -> None:
        super().__init__(names, [kernels.rotate(weight, rotation) for weight in weights])
        self.rotation = rotation

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        return super().__call__(kernels.rotate(x, self.rotation))


class PlaneProjection:
    """Coded planes applied to rotated int8 inputs. `stacks`: one for each matrix; another tuple
    whenever one changes.

    Raises KernelError, with the names of the matrices, when an input is not finite.
    `exchanged` is another object whenever any of them was given other planes.
    """

    exchanged = object()

    def __init__(self, planes: Mapping[str, tuple[Plane, ...]], rotation: Rotation) -> None:
        self.rotation = rotation
        self._names = tuple(planes)
        self.stacks = tuple(kernels.PlaneStack(stack) for stack in planes.values())

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        try:
            return list(kernels.project(x, self.rotation, self.stacks))
        except KernelError as error:
            raise error.at("the input of " + ", ".join(self.names)) from error

    def exchange(self, planes: Mapping[str, tuple[Plane, ...]]) -> None:
        """Other planes for some of the matrices, by name; between two tokens."""
        if any(name in planes for name in self._names):
            self.stacks = tuple(
                kernels.PlaneStack(planes[name]) if name in planes else stack
                for name, stack in zip(self._names, self.stacks, strict=True)
            )
            PlaneProjection.exchanged = object()


class DenseMatrix:
    """An original matrix, float32."""

    version = 0

    def __init__(self, name: str, weights: FloatArray) -> None:
        self.names, self.weights = (name,), weights

    def __call__(self, x: FloatArray) -> FloatArray:
        return self.weights


class PlaneMatrix:
    """A matrix decoded from its planes and rotated back."""

    def __init__(self, name: str, planes: tuple[Plane, ...], rotation: Rotation) -> None:
        self.rotation = rotation
        self._name, self._planes = name, planes
        self.version = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (self._name,)

    def __call__(self, x: FloatArray) -> FloatArray:
        spec = self._planes[0].spec
        whole = np.empty((spec.rows, spec.cols), np.float32)
        for begin in range(0, spec.rows, ROWS_AT_ONCE):  # no second copy of the whole
            ids = np.arange(begin, min(begin + ROWS_AT_ONCE, spec.rows))
            whole[ids] = kernels.unrotate(kernels.gather_rows(self._planes, ids), self.rotation)
        return whole

    def exchange(self, planes: Mapping[str, tuple[Plane, ...]]) -> None:
        """Other planes, where its name is among them; between two tokens."""
        if self._name in planes:
            self._planes = planes[self._name]
            self.version += 1


class Joined:
    """The tiers of one matrix as one output."""

    def __init__(self, tiers: Projection) -> None:
        self.tiers = tiers

    @property
    def names(self) -> tuple[str, ...]:
        return self.tiers.names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        outputs = self.tiers(x)
        return outputs if len(outputs) == 1 else [np.concatenate(outputs, axis=1)]


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
    """Rows decoded from planes and rotated back; tiers of rows by name, in order. Shares its planes
    with a tied head.
    """

    def __init__(self, tiers: Mapping[str, tuple[Plane, ...]], rotation: Rotation) -> None:
        self._tiers = {name: kernels.PlaneStack(stack) for name, stack in tiers.items()}
        self.rotation = rotation
        self._begins = np.cumsum([0, *(stack.rows for stack in self._tiers.values())])[:-1]

    def __call__(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        if len(self._tiers) == 1:
            (only,) = self._tiers.values()
            return kernels.embed_rows(only, ids, self.rotation)
        rows = np.empty((len(ids), self.rotation.width), np.float32)
        tier = np.searchsorted(self._begins, ids, side="right") - 1
        for index, stack in enumerate(self._tiers.values()):
            if len(chosen := np.flatnonzero(tier == index)):
                mine = ids[chosen] - self._begins[index]
                rows[chosen] = kernels.embed_rows(stack, mine, self.rotation)
        return rows

    def exchange(self, planes: Mapping[str, tuple[Plane, ...]]) -> None:
        """Other planes for some of the tiers, by name; between two tokens."""
        for name in self._tiers:
            if name in planes:
                self._tiers[name] = kernels.PlaneStack(planes[name])
