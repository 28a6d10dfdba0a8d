"""The spectral stability controller: where does the error of a crystal grow, and which layers are
to be refined first.

Hidden states of the original and of the crystal are compared after every layer. The relative error
is |crystal - original| / |original| over all tokens; its log ratio from one layer to the next is
the finite-time growth exponent over depth. A layer is unstable when its exponent exceeds the bound,
the median of all layers plus some deviations. Over tokens the exponent is the slope of the log
relative error with the position in a row. Sums only are kept: a few numbers per layer.

An error that comes into being has not grown: an embedding with many bits leaves hardly any, and the
first layer brings its own. So where layers are judged, an error of the embedding below a share of
the median over depth counts as that share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.errors import QualityError, UsageError
from h2q.engine import Model
from h2q.engine.model import HiddenObserver
from h2q.geometry.spectrum import growth_exponent

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int64]

EMBEDDING = -1  # the depth of what enters the first layer
FLOOR = 1e-5  # relative errors below are float32's own
BORN = 0.5  # of the median relative error over depth: what a smaller one of the embedding counts as
NORMAL = 1.4826  # standard deviations per median absolute deviation of a normal distribution
MARGIN = math.log(1.5)  # an error that grows this much beyond the median is no outlier yet
MOST_PRIORITY = 16.0


@dataclass
class _Depth:
    """Sums after one layer: energies, and of positions and log errors for a straight line."""

    error: float = 0.0
    signal: float = 0.0
    count: int = 0
    positions: float = 0.0
    squares: float = 0.0
    logs: float = 0.0
    products: float = 0.0

    @property
    def relative(self) -> float:
        if self.error == 0:
            return 0.0
        return math.sqrt(self.error / self.signal) if self.signal else math.inf

    @property
    def slope(self) -> float | None:
        spread = self.count * self.squares - self.positions**2
        if spread <= 0:
            return None
        return (self.count * self.products - self.positions * self.logs) / spread


class SpectralStabilityController:
    """`deviations`: how many standard deviations (by the median absolute deviation) above the
    median a layer's exponent may lie, at least `margin` nats. `absolute`: a bound that holds
    besides, nats per layer.
    """

    def __init__(
        self, deviations: float = 3.0, margin: float = MARGIN, absolute: float | None = None
    ) -> None:
        if not deviations > 0 or not margin >= 0:
            raise UsageError("Bounds of growth need positive deviations and a margin of 0 or more.")
        self.deviations, self.margin, self.absolute = deviations, margin, absolute
        self._depths: dict[int, _Depth] = {}

    def observe(
        self,
        layer: int,
        original: FloatArray,
        crystal: FloatArray,
        positions: TokenArray | None = None,
    ) -> None:
        """Hidden states after `layer` (EMBEDDING: before the first), float32 (tokens, width), of
        the same tokens; `positions` int64 (tokens,) inside their rows.

        Raises UsageError when shapes differ, QualityError when a state is not finite.
        """
        if original.shape != crystal.shape or original.ndim != 2 or layer < EMBEDDING:
            raise UsageError(
                f"States of shapes {original.shape} and {crystal.shape} after layer {layer} "
                "cannot be compared."
            )
        missing = np.square(crystal.astype(np.float64) - original).sum(axis=1)
        signal = np.square(original.astype(np.float64)).sum(axis=1)
        if not (np.isfinite(missing).all() and np.isfinite(signal).all()):
            raise QualityError("A hidden state is not finite.", where=f"after layer {layer}")
        depth = self._depths.setdefault(layer, _Depth())
        depth.error += float(missing.sum())
        depth.signal += float(signal.sum())
        if positions is None:
            return
        logs = 0.5 * np.log(np.maximum(missing / np.maximum(signal, 1e-300), FLOOR**2))
        at = positions.astype(np.float64)
        depth.count += len(at)
        depth.positions += float(at.sum())
        depth.squares += float(at @ at)
        depth.logs += float(logs.sum())
        depth.products += float(at @ logs)

    def state(self) -> npt.NDArray[np.float64]:
        """All that was observed, float64 (depths, 8): the layer, then its sums."""
        rows = [[layer, *astuple(depth)] for layer, depth in self._depths.items()]
        return np.array(rows, np.float64).reshape(-1, 8)

    def restore(self, state: npt.NDArray[np.float64]) -> None:
        """What `state` gave, in place of what was observed."""
        self._depths = {
            int(row[0]): _Depth(row[1], row[2], int(row[3]), *row[4:]) for row in state.tolist()
        }

    @property
    def layers(self) -> list[int]:
        """Layers that were observed, rising, without the embedding."""
        return sorted(layer for layer in self._depths if layer != EMBEDDING)

    def relative_errors(self) -> dict[int, float]:
        """Relative error norm after each observed layer."""
        return {layer: self._depths[layer].relative for layer in self.layers}

    def depth_growth(self) -> dict[int, float]:
        """Exponent of each observed layer whose predecessor was observed too, nats."""
        return self._exponents(FLOOR)

    def _judged(self) -> dict[int, float]:
        """What layers are judged by: the exponents, the first layer's from no less than BORN."""
        errors = [depth.relative for depth in self._depths.values()]
        return self._exponents(max(FLOOR, BORN * float(np.median(errors or [0.0]))))

    def _exponents(self, first: float) -> dict[int, float]:
        """Norms below FLOOR count as FLOOR, both norms of the first layer below `first` as that."""
        relative = {layer: depth.relative for layer, depth in self._depths.items()}
        return {
            layer: growth_exponent(
                relative[layer - 1], relative[layer], FLOOR if layer - 1 != EMBEDDING else first
            )
            for layer in self.layers
            if layer - 1 in relative
        }

    def token_growth(self, layer: int | None = None) -> float | None:
        """Slope of the log relative error with the position, nats per token, after a layer (None:
        the last). None without positions, or with only one.
        """
        if not self.layers:
            return None
        depth = self._depths.get(self.layers[-1] if layer is None else layer)
        return depth.slope if depth else None

    def bound(self) -> float | None:
        """The exponent beyond which a layer is unstable, nats; None when nothing was observed."""
        growth = list(self._judged().values())
        if not growth:
            return self.absolute
        middle = float(np.median(growth))
        spread = NORMAL * float(np.median(np.abs(np.array(growth) - middle)))
        bound = middle + max(self.deviations * spread, self.margin)
        return bound if self.absolute is None else min(bound, self.absolute)

    def unstable(self) -> list[int]:
        """Layers that exceed the bound, the worst first."""
        bound = self.bound()
        if bound is None:
            return []
        over = {layer: g for layer, g in self._judged().items() if g > bound}
        return sorted(over, key=lambda layer: (-over[layer], layer))

    def priorities(self, layers: Iterable[int]) -> dict[int, float]:
        """What the value of a plane in each layer is to be multiplied by: 1 for stable layers, for
        others exp(2 (exponent - bound)), at most MOST_PRIORITY. Twice, because the KL divergence
        goes with the square of a small error.
        """
        bound, growth = self.bound(), self._judged()
        if bound is None:
            return dict.fromkeys(layers, 1.0)
        cap = math.log(MOST_PRIORITY)
        return {
            layer: math.exp(min(cap, max(0.0, 2 * (growth.get(layer, bound) - bound))))
            for layer in layers
        }

    def to_json(self) -> dict[str, Any]:
        """The `growth` entry of a certificate. Without an observed embedding `depth` is one shorter
        than `relative_error`.
        """
        return {
            "depth": list(self.depth_growth().values()),
            "tokens": self.token_growth(),
            "relative_error": list(self.relative_errors().values()),
            "bound": self.bound(),
            "unstable": self.unstable(),
        }


def measure_growth(
    original: Model, crystal: Model, tokens: TokenArray
) -> SpectralStabilityController:
    """Both models over int64 (rows, length) tokens, row by row; the states of one row of the
    original, layers x length x width float32, are held meanwhile.

    Raises UsageError for tokens outside the vocabulary or the context, QualityError for states that
    are not finite.
    """
    if original.spec != crystal.spec:
        raise UsageError("The original and the crystal are models of different shapes.")
    controller = SpectralStabilityController()
    for row in tokens:
        states = hidden_states(original, row)
        positions = np.arange(len(row), dtype=np.int64)

        def compare(
            layer: int,
            x: FloatArray,
            states: dict[int, FloatArray] = states,
            positions: TokenArray = positions,
        ) -> None:
            controller.observe(layer, states.pop(layer), x, positions)

        _run(crystal, row, compare)
    return controller


def hidden_states(model: Model, row: TokenArray) -> dict[int, FloatArray]:
    """The residual stream of one row of tokens after the embedding (EMBEDDING) and each layer,
    float32 (length, width).
    """
    states: dict[int, FloatArray] = {}
    _run(model, row, states.__setitem__)
    return states


def _run(model: Model, row: TokenArray, observer: HiddenObserver) -> None:
    model.hidden_observer = observer
    try:
        model.forward(row[None], model.new_cache(1, len(row)), last=True)
    finally:
        model.hidden_observer = None
