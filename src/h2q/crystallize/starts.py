"""Which way round a row is coded.

A lane's trellis begins at state zero, so its first steps reach few levels: at two bits only four,
from -2.4 to 0.9 deviations. A weight there that lies beyond them stays wrong in every plane above,
because each is as one-sided and smaller. A row scale may be negative: the row is then coded
mirrored. So every plane of a row turns the way that suits the weights its lanes begin with.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import COLUMN_GROUP, LEVELS, state_levels
from h2q.codec.layout import ROWS_PER_STEP, PanelLayout
from h2q.core.specs import PlaneSpec

FloatArray = npt.NDArray[np.float32]


@cache
def first_levels(bits: int) -> list[FloatArray]:
    """The levels that steps 0, 1 ... can reach, sorted, up to the last step that lacks some."""
    every = len(set(LEVELS[bits].tolist()))
    table = state_levels(bits)
    found: list[FloatArray] = []
    while True:
        reached = np.unique(table[: 1 << bits * (len(found) + 1)])
        if len(reached) == every:
            return found
        found.append(reached.astype(np.float32))


def row_signs(targets: FloatArray, bits: int) -> FloatArray:
    """1 or -1 for every row, float32 (rows,). targets: float32 (rows, cols), what a plane of `bits`
    bits is to code, in levels.
    """
    layout = PanelLayout.of(PlaneSpec(bits, *targets.shape))
    steps = np.arange(len(targets)) // ROWS_PER_STEP % layout.steps
    losses = np.zeros((2, len(targets)))
    for index, levels in enumerate(first_levels(bits)):
        rows = np.flatnonzero(steps == index % layout.steps)
        begin = index // layout.steps * COLUMN_GROUP
        weights = targets[rows, begin : begin + COLUMN_GROUP, None]
        for mirrored, turned in enumerate((weights, -weights)):
            losses[mirrored, rows] += np.square(turned - levels).min(axis=-1).sum(axis=-1)
    return np.where(losses[1] < losses[0], -1, 1).astype(np.float32)
