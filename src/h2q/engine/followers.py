"""Which experts a token's next layer will choose, judged by what followed its last choice so far.

For every pair of neighbouring layers it is counted how often each expert of the later one was
chosen by tokens that had chosen each expert of the earlier one; the first layer follows the last
one of the token before. A guess is worth the disk's time only where it is more often right than
wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SURE = 0.5  # share of tokens that must have followed
SEEN = 16  # times that an expert must have been chosen before it tells anything
MOST_ROWS = 64  # of a step that are counted
KEPT = 4096  # choices of an expert, after which all its counts are halved: texts change

IntArray = npt.NDArray[np.int64]


class Followers:
    """layers: of experts, in order; experts: in each."""

    def __init__(self, layers: int, experts: int) -> None:
        self._counts = np.zeros((layers, experts, experts), np.float32)
        self._seen = np.zeros((layers, experts), np.float32)
        self._last: IntArray | None = None

    def learn(self, layer: int, chosen: IntArray) -> None:
        """A layer chose: int64 (rows, experts per token), the same rows as the layer before."""
        chosen = chosen[-MOST_ROWS:]
        last, self._last = self._last, chosen
        if last is None or len(last) != len(chosen):
            return
        counts, seen = self._counts[layer], self._seen[layer]
        np.add.at(counts, (last[:, :, None], chosen[:, None, :]), 1)
        np.add.at(seen, last, 1)
        full = np.flatnonzero(seen > KEPT)
        counts[full] /= 2
        seen[full] /= 2

    def likely(self, layer: int) -> IntArray:
        """Experts that `layer` will probably choose, now that the one before it has chosen; the
        surest first.
        """
        if self._last is None:
            return np.zeros(0, np.int64)
        before: IntArray = np.unique(self._last)
        before = before[self._seen[layer, before] >= SEEN]
        if not len(before):
            return before
        shares = (self._counts[layer, before] / self._seen[layer, before, None]).max(axis=0)
        found = np.flatnonzero(shares > SURE)
        return np.asarray(found[np.argsort(-shares[found], kind="stable")], np.int64)
