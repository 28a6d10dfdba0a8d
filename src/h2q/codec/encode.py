"""The NumPy reference of coding a matrix: Viterbi along each lane, LDLQ feedback from column to
column.

Slow and plain; the native encoder gives the same symbols. Costs are whole numbers: squared
distances in level units, less the square of what the target lies beyond every level (common to all
levels, so only the cap would notice it), times a factor, capped and rounded. A state is reached
from any other in WINDOW / bits steps, so a penalty just above that many caps keeps paths from
starting anywhere but in the given state.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import COLUMN_GROUP, LANES, LEVEL_LIMIT, STATES, WINDOW, state_levels
from h2q.codec.decode import arrange_rows, pack_symbols
from h2q.codec.layout import ROWS_PER_STEP, PanelLayout
from h2q.core.errors import Cancelled, KernelError
from h2q.core.specs import PlaneSpec

FloatArray = npt.NDArray[np.float32]
StateArray = npt.NDArray[np.int64]

COST_FACTOR = {2: np.float32(0.25), 1: np.float32(0.15625)}
COST_CAP = {2: np.float32(1600), 1: np.float32(2000)}
REVISED = 32  # steps that are traced back whenever a search tells its best path so far
OUTERMOST, FARTHEST = np.float32(LEVEL_LIMIT), np.float32(1024)


def viterbi(
    bits: int,
    targets: FloatArray,
    starts: npt.NDArray[np.int64],
    group: int = 0,
    listener: Callable[[int, StateArray], None] | None = None,
) -> StateArray:
    """Cheapest path of each lane from its start state, free end: float32 (lanes, steps) to states
    (lanes, steps).

    After every `group` steps a listener hears how many are done and the best path so far, of which
    the last REVISED steps may be news, and may change the targets to come.
    """
    lanes, steps = targets.shape
    groups = STATES >> bits
    levels = state_levels(bits).astype(np.float32)
    costs = np.full((lanes, STATES), WINDOW // bits * int(COST_CAP[bits]) + 1, np.int32)
    costs[np.arange(lanes), starts] = 0
    choices = np.empty((steps, lanes, groups), np.int8)
    states = np.empty((lanes, steps), np.int64)
    for step in range(steps):
        # Feedback may overflow float32; NaN counts as far above.
        x = targets[:, step, None]
        near = np.where(x < FARTHEST, np.maximum(x, -FARTHEST), FARTHEST)
        error, beyond = near - levels, np.maximum(np.abs(near) - OUTERMOST, np.float32(0))
        distance = (error * error - beyond * beyond) * COST_FACTOR[bits]
        distance = np.where(distance < COST_CAP[bits], distance, COST_CAP[bits])
        runs = costs.reshape(lanes, 1 << bits, groups)
        choices[step] = runs.argmin(axis=1)
        best = np.repeat(runs.min(axis=1), 1 << bits, axis=1)
        costs = best + (distance + np.float32(0.5)).astype(np.int32)
        done = step + 1
        if listener is not None and done % group == 0 and done < steps:
            _trace_back(bits, costs, choices, states, step, max(0, done - REVISED))
            listener(done, states)
    _trace_back(bits, costs, choices, states, steps - 1, 0)
    return states


def _trace_back(
    bits: int,
    costs: npt.NDArray[np.int32],
    choices: npt.NDArray[np.int8],
    states: StateArray,
    last: int,
    first: int,
) -> None:
    """Write the best path that ends after step `last`, back to step `first`."""
    lanes, groups = np.arange(len(costs)), STATES >> bits
    state = costs.argmin(axis=1)
    for step in range(last, first - 1, -1):
        states[:, step] = state
        group = state >> bits
        state = group + choices[step, lanes, group].astype(np.int64) * groups


def encode_plane(
    target: FloatArray,
    bits: int,
    feedback: FloatArray | None = None,
    commit: int = 12,
    lookahead: int = 24,
    progress: Callable[[float], bool] | None = None,
) -> npt.NDArray[np.uint8]:
    """Codes of a target in level units: float32 (rows, cols) to uint8 (panels, lines, 64).

    feedback: float32 (cols, cols), strictly upper: column j's target grows by sum over i < j of
    error_i * feedback_ij. `commit` columns are fixed at a time after looking `lookahead` columns
    ahead (at sixteen steps per group of four; with fewer steps more columns are looked at).
    progress hears the share done and may return False to stop. Raises KernelError on values that
    are not finite or a feedback of another width, Cancelled when stopped.
    """
    if feedback is not None and feedback.shape != (target.shape[1],) * 2:
        raise KernelError("The feedback does not have the width of the matrix.")
    if not np.isfinite(target).all() or (feedback is not None and not np.isfinite(feedback).all()):
        raise KernelError("The weights or their feedback contain a value that is not finite.")
    spec = PlaneSpec(bits, *target.shape)
    layout = PanelLayout.of(spec)
    width = layout.padded_cols
    corrected = np.zeros((layout.panels * layout.panel_rows, width), np.float32)
    corrected[: spec.rows, : spec.cols] = target
    unit = COLUMN_GROUP * max(1, layout.symbols // layout.steps)
    commit = -(-max(1, commit) // unit) * unit
    lookahead = max(0, lookahead) * 16 // layout.steps // COLUMN_GROUP * COLUMN_GROUP
    starts = np.zeros(layout.panels * LANES, np.int64)
    symbols = []
    for begin in range(0, width, commit):
        end = min(width, begin + commit)
        seen = min(width, end + lookahead)
        keep = (end - begin) // COLUMN_GROUP * layout.steps
        ahead = _lanes(layout, corrected[:, begin:seen])
        listener = None
        if feedback is not None:
            block = _Block(layout, target, corrected, feedback, ahead, begin)
            listener = block.expect
        states = viterbi(bits, ahead, starts, layout.steps, listener)[:, :keep]
        starts = states[:, -1]
        by_step = states.reshape(layout.panels, LANES, keep).transpose(0, 2, 1)
        symbols.append((by_step & ((1 << bits) - 1)).astype(np.uint8))
        if feedback is not None:
            levels = _matrix_levels(layout, states)
            _correct(corrected, target, levels, feedback, begin, end)
        if progress is not None and not progress(end / width):
            raise Cancelled("Encoding was stopped.")
    return pack_symbols(spec, np.concatenate(symbols, axis=1))


def _lanes(layout: PanelLayout, columns: FloatArray) -> FloatArray:
    """Columns (padded rows, n) in trellis order per lane: (panels * 64, n / 4 * steps)."""
    grid = columns.reshape(layout.panels, layout.steps, ROWS_PER_STEP, -1, COLUMN_GROUP)
    return np.ascontiguousarray(grid.transpose(0, 2, 4, 3, 1).reshape(layout.panels * LANES, -1))


def _matrix_levels(layout: PanelLayout, states: StateArray) -> FloatArray:
    """Levels of some of a plane's columns: states (panels * 64, n / 4 * steps) to (padded rows,
    n).
    """
    steps = states.shape[1]
    cols, lines = steps // layout.steps * COLUMN_GROUP, steps // layout.symbols
    part = PanelLayout(layout.spec, layout.steps, layout.symbols, layout.panels, cols, lines)
    by_step = states.reshape(layout.panels, LANES, steps).transpose(0, 2, 1)
    return arrange_rows(part, state_levels(layout.spec.bits)[by_step]).astype(np.float32)


class _Block:
    """Listens to the search of a block: the targets of each next group of columns grow by what the
    best path so far does wrong since the block's begin, one column after the other.
    """

    def __init__(
        self,
        layout: PanelLayout,
        target: FloatArray,
        corrected: FloatArray,
        feedback: FloatArray,
        ahead: FloatArray,
        begin: int,
    ) -> None:
        self._layout, self._target, self._corrected = layout, target, corrected
        self._feedback, self._ahead, self._begin = feedback, ahead, begin
        width = ahead.shape[1] // layout.steps * COLUMN_GROUP
        self._errors = np.zeros((len(target), width), np.float32)

    def expect(self, done: int, states: StateArray) -> None:
        steps, begin, (rows, cols) = self._layout.steps, self._begin, self._target.shape
        ready = done // steps * COLUMN_GROUP
        news = max(0, ready - max(1, REVISED // steps) * COLUMN_GROUP)
        first, last = begin + ready, min(cols, begin + ready + COLUMN_GROUP)
        if first >= cols:
            return
        recent = states[:, news // COLUMN_GROUP * steps : done]
        levels = _matrix_levels(self._layout, recent)[:rows]
        self._errors[:, news:ready] = self._target[:, begin + news : first] - levels
        group = self._corrected[:, first : first + COLUMN_GROUP].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(ready):
                share = self._feedback[None, begin + i, first:last]
                group[:rows, : last - first] += self._errors[:, i, None] * share
        self._ahead[:, done : done + steps] = _lanes(self._layout, group)


def _correct(
    corrected: FloatArray,
    target: FloatArray,
    levels: FloatArray,
    feedback: FloatArray,
    begin: int,
    end: int,
) -> None:
    """Add what columns [begin, end) did wrong to the targets of later columns, one column after the
    other.
    """
    rows, cols = target.shape
    for i in range(begin, min(end, cols)):
        error = target[:, i] - levels[:rows, i - begin]
        with np.errstate(over="ignore", invalid="ignore"):
            corrected[:rows, end:cols] += error[:, None] * feedback[None, i, end:cols]
