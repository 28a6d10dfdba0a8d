"""A matrix becomes a tower of planes: each codes what the planes before it left over, with its own
row scales.

The error of a row e is e H e^T, H the moments of what the matrix reads, or e e^T without moments.
Row scales are re-fitted after encoding. A row takes a plane only where that does not raise its
error, measured with the scale as it is stored; else its scale there is zero. So more planes are
never worse, whatever the encoder did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.constants import UNIT
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, from_bfloat16, to_bfloat16
from h2q.core.errors import KernelError, QualityError, SourceError, UsageError
from h2q.core.specs import PlaneSpec
from h2q.crystallize.factor import WIDE
from h2q.crystallize.moments import FloatArray, Moments, feedback
from h2q.crystallize.row_costs import Costs, by_answers, row_costs, under_moments
from h2q.crystallize.starts import row_signs

Listener = Callable[[float], bool]

COMMIT, LOOKAHEAD = 12, 24  # columns; chosen by measurement, docs/lab/LOG.md
MOST_PLANES = 8  # of a tensor, docs/format.md
# A plane is encoded at a scale this much above the one its levels were made for: hardly dearer for
# most weights, and what lies far out leaves less to the planes above.
SPREAD = {2: 1.03, 1: 1.02}
# And this much more by the number of planes that follow. What a plane's largest level does not
# reach, planes above, being smaller, hardly mend; inside its reach they halve it for every bit.
ROOM = (1.0, 1.05, 1.12, 1.15)
LOSS = {2: 0.07, 1: 0.27}  # of a plane, about; for the power that its own errors feed back
MOST_FED = 0.75  # share of a target's power; beyond, the estimate is no longer one
SMALLEST_SCALE = np.float32(1e-30)
FIT_DAMPING = 0.01  # of the moments under which scales are fitted: nothing is all silent
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class TowerPlan:
    """Bits per weight of each plane, base first; how much the moments are damped before they shape
    that plane's feedback (see moments.damped); columns that are committed at a time, and looked at
    beyond.
    """

    bits: tuple[int, ...]
    damping: tuple[float, ...]
    commit: int = COMMIT
    lookahead: int = LOOKAHEAD

    def __post_init__(self) -> None:
        if not 1 <= len(self.bits) <= MOST_PLANES or not set(self.bits) <= {1, 2}:
            raise UsageError(
                f"A tower has 1 to {MOST_PLANES} planes of 1 or 2 bits, not {self.bits!r}."
            )
        if len(self.damping) != len(self.bits) or not all(
            math.isfinite(d) and d >= 0 for d in self.damping
        ):
            raise UsageError(
                f"A tower of {len(self.bits)} planes takes as many dampings, finite and not "
                f"negative, not {self.damping!r}."
            )
        if self.commit < 1 or self.lookahead < 0:
            raise UsageError("A tower commits at least one column and looks ahead at least none.")

    def __str__(self) -> str:
        return "+".join(map(str, self.bits))


@dataclass(frozen=True)
class Matrix:
    """What is to be coded: float32 (rows, cols) rotated weights of the tensor `name`, and (cols,
    cols) moments of what it reads, symmetric and not negative, or None where every column counts
    the same. `shapes` keeps the feedback of these moments by damping; matrices that read the same
    input may share it. `judges`: float32 (tokens, cols), inputs that stand for the moments where
    errors are measured, None for the moments themselves.

    Raises SourceError for weights and QualityError for moments that are not finite, both with the
    tensor's name.
    """

    name: str
    weights: FloatArray
    moments: Moments | None = None
    shapes: dict[float, FloatArray] = field(default_factory=dict, repr=False)
    judges: FloatArray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not np.isfinite(self.weights).all():
            raise SourceError("The tensor holds a value that is not finite.", where=self.name)
        if self.moments is None:
            return
        if self.moments.shape != (self.weights.shape[1],) * 2:
            raise QualityError("The moments do not have the width of the tensor.", where=self.name)
        if not np.isfinite(self.moments).all():
            raise QualityError("The moments hold a value that is not finite.", where=self.name)

    @cached_property
    def costs(self) -> Costs:
        """Error of each row if it were left out altogether, float64 (rows,)."""
        return self.inner(self.weights, [self.weights])[0]

    def inner(self, left: FloatArray, rights: list[FloatArray]) -> list[Costs]:
        """l_i H r_i^T of every row i, for each of `rights`: float64 (rows,)."""
        if self.judges is None:
            return under_moments(left, self.moments, rights)
        return by_answers(left, self.judges, rights)


@dataclass(frozen=True)
class Encoded:
    """A plane on top of those before it.

    rest: float32 (rows, cols), what is still missing. costs: float64 (rows,), the error of each
    row. error: proxy loss tr(E H E^T) / tr(W H W^T). mse: the same without moments.
    """

    plane: Plane
    rest: FloatArray
    costs: Costs
    error: float
    mse: float


def encode_tower(
    matrix: Matrix, plan: TowerPlan, progress: Listener | None = None
) -> list[Encoded]:
    """All planes of a tower, base first. See each_plane."""
    return list(each_plane(matrix, plan, progress))


def each_plane(
    matrix: Matrix, plan: TowerPlan, progress: Listener | None = None
) -> Iterator[Encoded]:
    """A tower, plane by plane, base first. progress hears the share done and may return False to
    stop; raises Cancelled then, and what add_plane raises.
    """
    done: Encoded | None = None
    for index, (bits, damping) in enumerate(zip(plan.bits, plan.damping, strict=True)):
        part = None if progress is None else _part(progress, index, len(plan.bits))
        above = len(plan.bits) - 1 - index
        done = add_plane(matrix, done, bits, damping, plan.commit, plan.lookahead, part, above)
        yield done


def add_plane(
    matrix: Matrix,
    before: Encoded | None,
    bits: int,
    damping: float,
    commit: int = COMMIT,
    lookahead: int = LOOKAHEAD,
    progress: Listener | None = None,
    above: int = 0,
) -> Encoded:
    """One more plane of `bits` on top of `before`, or the base; `above` more will follow. Raises
    QualityError when moments and damping together are not positive definite, Cancelled when
    progress returned False.
    """
    rest = matrix.weights if before is None else before.rest
    costs = matrix.costs if before is None else before.costs
    shape = _feedback(matrix, damping)
    scale = np.sqrt(row_costs(rest, None) / rest.shape[1]) * _spread(bits, above, shape)
    scale = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
    targets = rest / scale[:, None]
    signs = row_signs(targets, bits)
    targets *= signs[:, None]
    try:
        codes = kernels.encode_plane(targets, bits, shape, commit, lookahead, progress=progress)
    except KernelError as error:
        raise KernelError(error.what, where=matrix.name, fix=error.fix) from error
    del targets  # large
    spec = PlaneSpec(bits, *rest.shape)
    levels = kernels.decode_plane(spec, codes).astype(np.float32)
    stored, after = _fitted(rest, levels, matrix, costs)
    left = _left(rest, stored, levels)
    scales = np.zeros(PanelLayout.of(spec).scale_count, np.uint16)
    scales[: spec.rows] = stored
    return Encoded(
        plane=Plane(spec, codes, scales),
        rest=left,
        costs=after,
        error=_share(after, matrix.costs),
        mse=_share(row_costs(left, None), row_costs(matrix.weights, None)),
    )


def _feedback(matrix: Matrix, damping: float) -> FloatArray | None:
    if matrix.moments is None:
        return None
    if damping in matrix.shapes:
        return matrix.shapes[damping]
    if len(matrix.moments) > WIDE:
        matrix.shapes.clear()
    try:
        shape = feedback(matrix.moments, damping)
    except np.linalg.LinAlgError as error:
        raise QualityError(
            "The moments of what the tensor reads are not positive definite.",
            where=matrix.name,
            fix=f"Calibrate on more text, or damp them by more than {damping:g}.",
        ) from error
    matrix.shapes[damping] = shape
    return shape


def _spread(bits: int, above: int, shape: FloatArray | None) -> float:
    """Row scale at which a plane is encoded, relative to the row's deviation.

    A target is its weight plus what errors before it feed back: of power t = w + loss * t * f, f
    the mean power of the feedback's columns.
    """
    fed = 0.0
    if shape is not None:
        blocks = (shape[at : at + ROWS_AT_ONCE] for at in range(0, len(shape), ROWS_AT_ONCE))
        power = sum(float(np.sum(block**2, dtype=np.float64)) for block in blocks)
        fed = LOSS[bits] * power / len(shape)
    wide = SPREAD[bits] * ROOM[min(above, len(ROOM) - 1)]
    return wide / UNIT[bits] / math.sqrt(1 - min(fed, MOST_FED))


def _fitted(
    rest: FloatArray, levels: FloatArray, matrix: Matrix, costs: Costs
) -> tuple[npt.NDArray[np.uint16], Costs]:
    """Row scales as they are stored, bfloat16 bits, and what each row costs with them.

    A scale is argmin over s of (w - s q) H (w - s q)^T, H lightly damped, and may be negative; zero
    where the row is better off without the plane. The cost follows from w H w^T, w H q^T
    and q H q^T, of which the first is known.
    """
    moments = matrix.moments
    across, own = matrix.inner(levels, [rest, levels])
    above, below = across, own
    if moments is not None:
        light = FIT_DAMPING * max(float(np.trace(moments)) / len(moments), 1e-12)
        plain_across, plain_own = under_moments(levels, None, [rest, levels])
        above, below = across + light * plain_across, own + light * plain_own
    fitted = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = to_bfloat16(fitted.astype(np.float32))
        scale = from_bfloat16(stored).astype(np.float64)
        after = costs - 2 * scale * across + scale**2 * own
    worse = ~(after <= costs) | ~np.isfinite(scale)
    stored[worse], after[worse] = 0, costs[worse]
    return stored, np.maximum(after, 0.0)


def _left(rest: FloatArray, stored: npt.NDArray[np.uint16], levels: FloatArray) -> FloatArray:
    """What a plane leaves over; written over its levels."""
    levels *= from_bfloat16(stored)[:, None]
    return np.subtract(rest, levels, out=levels)


def _share(costs: Costs, whole: Costs) -> float:
    return float(costs.sum() / max(float(whole.sum()), 1e-30))


def _part(progress: Listener, index: int, count: int) -> Listener:
    return lambda share: progress((index + share) / count)
