"""A layer that grows while it is run for the first time.

The original layer has run before and its inputs were kept. Then the same definition runs on the
crystal's stream; each group of matrices is coded at the moment its input is known, and answers with
its planes. So every matrix is shaped by what it will really read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from h2q import kernels
from h2q.codec.planes import Plane
from h2q.core.architecture import parts
from h2q.core.errors import SourceError
from h2q.core.mlp_tensors import is_expert
from h2q.core.tensor_spec import TensorSpec
from h2q.crystallize.correction import Inputs, corrected
from h2q.crystallize.moments import FloatArray
from h2q.crystallize.row_costs import Costs
from h2q.crystallize.towers import Matrix, TowerPlan, each_plane
from h2q.engine.experts import Experts
from h2q.engine.load import OriginalWeights, PlaneWeights
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import HeldMatrix, Joined, PlaneMatrix, PlaneProjection, Projection
from h2q.geometry.rotation import rotation
from h2q.sources import Source

Report = Callable[[str, float], bool]  # name of a part, share done; False stops


@dataclass(frozen=True)
class Grown:
    """A coded part. costs: float64 (planes + 1, rows), what each row's error costs with none, one,
    two of its planes; mse: with one, two of its planes, relative to the power of the weights;
    tokens: how many shaped it, of an expert's matrix, else -1.
    """

    planes: tuple[Plane, ...]
    costs: Costs
    mse: tuple[float, ...]
    tokens: int = -1


def grow_part(
    matrix: Matrix,
    plan: TowerPlan,
    report: Callable[[float], bool] | None = None,
    tokens: int = -1,
) -> Grown:
    """All planes of one part. Raises what each_plane raises."""
    planes, costs, mse = list[Plane](), [matrix.costs], list[float]()
    for encoded in each_plane(matrix, plan, report):
        planes.append(encoded.plane)
        costs.append(encoded.costs)
        mse.append(encoded.mse)
    return Grown(tuple(planes), np.stack(costs), tuple(mse), tokens)


def read_rotated(source: Source, name: str, seed: int) -> FloatArray:
    """W R^T, float32 (rows, cols). Raises SourceError when a weight is not finite."""
    weights = np.ascontiguousarray(source.tensor(name), np.float32)
    if not np.isfinite(weights).all():
        raise SourceError("The tensor holds a value that is not finite.", where=name)
    return kernels.rotate(weights, rotation(seed, weights.shape[1]))


@dataclass
class Heard:
    """What the original sent through a layer, for the texts it was calibrated on: `inputs` of its
    matrices by `reads` name, float32 (T, width), and of those that add to the stream `answers`
    instead, float32 (T, rows), by tensor. Both lose what is used.
    """

    inputs: dict[str, FloatArray] = field(default_factory=dict)
    answers: dict[str, FloatArray] = field(default_factory=dict)


class HeardWeights(OriginalWeights):
    """An original layer that keeps in `heard` what growing needs of its first run. `hear` observes
    that run.
    """

    def __init__(self, source: Source, table: Mapping[str, TensorSpec]) -> None:
        super().__init__(source)
        self.table, self.heard = table, Heard()
        self._needed = {
            t.reads for t in table.values() if t.coded and not t.adds and not is_expert(t.name)
        }

    def hear(self, reads: str, x: FloatArray) -> None:
        if reads in self._needed:
            self.heard.inputs[reads] = x

    def projection(self, names: Sequence[str]) -> Projection:
        found = super().projection(names)
        return _Overheard(found, self.heard.answers) if self.table[names[0]].adds else found


class _Overheard:
    """A projection of one matrix whose first answer is kept."""

    def __init__(self, projection: Projection, answers: dict[str, FloatArray]) -> None:
        self.projection, self.answers = projection, answers

    @property
    def names(self) -> tuple[str, ...]:
        return self.projection.names

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        found = self.projection(x)
        self.answers.setdefault(self.names[0], found[0])
        return found


class GrowingLayer(PlaneWeights):
    """Weights of one layer that do not exist yet. `heard`: what the original sent through it.
    `drift` is the original's stream minus the crystal's where the layer begins, and is changed.
    `grown` fills with the coded parts.
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        plans: dict[str, TowerPlan],
        table: dict[str, TensorSpec],
        heard: Heard,
        drift: FloatArray,
        ridge: float,
        report: Report,
    ) -> None:
        super().__init__(self._of, lambda name: np.asarray(source.tensor(name), np.float32), seed)
        self.source, self.seed, self.plans, self.table = source, seed, plans, table
        self.heard, self.drift, self.ridge, self.report = heard, drift, ridge, report
        self.grown: dict[str, Grown] = {}

    def _of(self, name: str) -> tuple[Plane, ...]:
        return self.grown[name].planes

    def projection(self, names: Sequence[str]) -> Projection:
        return _Growing(self, names)

    def matrix(self, name: str) -> HeldMatrix:
        return _GrowingMatrix(self, name)

    def experts(self, mlps: Sequence[GatedMLP]) -> Experts:
        from h2q.crystallize.growing_experts import GrowingExperts  # which builds on this module

        return GrowingExperts(self, mlps)

    def code(self, names: Sequence[str], moments: FloatArray, tokens: int) -> PlaneProjection:
        """Code matrices under these moments, float32 (width, width), as `tokens` tokens gave
        them.
        """
        shapes: dict[float, FloatArray] = {}
        for name in names:
            weights = read_rotated(self.source, name, self.seed)
            matrix = Matrix(name, weights, moments, shapes)
            self.grown[name] = grow_part(matrix, self.plans[name], self._report(name), tokens)
        stacks = {name: self.grown[name].planes for name in names}
        return PlaneProjection(stacks, rotation(self.seed, len(moments)))

    def head(self, tensor: TensorSpec) -> Projection:
        return Joined(_Growing(self, [tensor.name]))

    def grow(
        self, names: Sequence[str], x: FloatArray
    ) -> tuple[PlaneProjection, list[FloatArray] | None]:
        """Code matrices that read x, float32 (T, width), and keep the drift up to date. Beside them
        their answers to x, where those were needed.
        """
        first = self.table[names[0]]
        adds = first.adds
        turn = rotation(self.seed, x.shape[1])
        damping = self.plans[parts(first)[0].name].damping[0]
        crystal = kernels.rotate(np.ascontiguousarray(x), turn)
        inputs = Inputs(first.reads, crystal, self.ridge, damping)
        del crystal  # large
        if adds:  # one matrix, which makes good what the stream lacks
            self.drift += self.heard.answers.pop(names[0])
            inputs.wanted = self.drift
        else:
            inputs.original = kernels.rotate(self.heard.inputs.pop(first.reads), turn)
        matrices = [read_rotated(self.source, name, self.seed) for name in names]
        wanted = corrected(inputs, matrices)
        del matrices, inputs  # large
        stacks: dict[str, tuple[Plane, ...]] = {}
        for name in names:
            weights = wanted.weights.pop(0)
            for part in parts(self.table[name]):
                rows = weights[part.rows]
                matrix = Matrix(part.name, rows, wanted.moments, wanted.shapes, wanted.chosen)
                self.grown[part.name] = grow_part(
                    matrix, self.plans[part.name], self._report(part.name)
                )
                stacks[part.name] = self.grown[part.name].planes
        del wanted, weights, matrix, rows  # large
        projection = PlaneProjection(stacks, turn)
        if not adds:
            return projection, None
        answers = projection(x)
        self.drift -= answers[0]
        return projection, answers

    def _report(self, name: str) -> Callable[[float], bool]:
        return lambda share: self.report(name, share)


class _Growing:
    """Grows at the first call, then answers with planes."""

    def __init__(self, layer: GrowingLayer, names: Sequence[str]) -> None:
        self.layer, self.names = layer, tuple(names)
        self.planes: PlaneProjection | None = None

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        if self.planes is not None:
            return self.planes(x)
        self.planes, answers = self.layer.grow(self.names, x)
        return self.planes(x) if answers is None else answers


class _GrowingMatrix:
    """The same for a matrix that is held."""

    version = 0

    def __init__(self, layer: GrowingLayer, name: str) -> None:
        self.layer, self.names = layer, (name,)
        self.planes: PlaneMatrix | None = None

    def __call__(self, x: FloatArray) -> FloatArray:
        if self.planes is None:
            (name,) = self.names
            turn = self.layer.grow([name], x)[0].rotation
            self.planes = PlaneMatrix(name, self.layer.grown[name].planes, turn)
        return self.planes(x)
