"""Which tokens may be drawn: top-k, nucleus, min-p, typical; each a small function of scores.

None sorts a vocabulary where a part of it is enough. `largest` finds the k largest of n scores
without ordering the rest: the scores are dealt into columns, the k-th largest of the columns'
maxima is a floor that at least k scores reach, and few others do. The nucleus goes down from the
peak until what is above holds the share that is asked for, and sorts only the bin in which it is
reached.

Scores are logarithms up to a constant, weights their exponentials. A cut returns indices into what
it was given, ascending. At least one token always stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
ROWS = 64  # scores per column
SMALL = 2048  # fewer scores are sorted faster than they are dealt out
BINS = 4096
FIRST_DEPTH, DEEPER, LAST_DEPTH = 2.0, 1.6, 40.0  # nats


def largest(scores: Floats, count: int) -> Indices:
    """Indices of the `count` largest scores and of ties with the last of them, ascending."""
    size = len(scores)
    if count >= size:
        return np.arange(size)
    columns = size // ROWS
    if size < SMALL or count * 2 > columns:
        edge = np.partition(scores, size - count)[size - count]
        return np.flatnonzero(scores >= edge)
    dealt = scores[: columns * ROWS].reshape(ROWS, columns).max(axis=0)
    floor = np.partition(dealt, columns - count)[columns - count]
    found = np.flatnonzero(scores >= floor)
    values = scores[found]
    edge = np.partition(values, len(values) - count)[len(values) - count]
    return np.asarray(found[values >= edge])


def top_k(scores: Floats, count: int) -> Indices:
    """The `count` largest, with ties of the last."""
    return largest(scores, count)


def min_p(scores: Floats, share: float) -> Indices:
    """Those whose probability is at least `share` of the largest one's."""
    return np.flatnonzero(scores >= scores.max() + np.log(share))


def top_p(scores: Floats, weights: Floats, share: float) -> Indices:
    """The fewest that have `share` of the sum of weights, largest first, the lower index first
    among equals.
    """
    return _mass(scores, weights, share)


def typical(scores: Floats, weights: Floats, share: float) -> Indices:
    """The fewest that have `share`, nearest first to the mean of -log p (the entropy)."""
    total = weights.sum(dtype=np.float64)
    present = np.flatnonzero(weights > 0)
    kept, mass = scores[present], weights[present]
    surprise = np.log(total) - kept.astype(np.float64)
    distance = np.abs(surprise - np.dot(surprise, mass) / total)
    return np.asarray(present[_mass(-distance.astype(np.float32), mass, share)])


def _mass(keys: Floats, weights: Floats, share: float) -> Indices:
    """The fewest of the largest keys whose weights reach `share` of their sum."""
    wanted = share * float(weights.sum(dtype=np.float64))
    rest = _reaching(keys, weights, wanted)
    taken = rest[:0]
    values = keys[rest]
    peak, low = values.max(), values.min()
    if len(rest) > SMALL and low < peak:
        steps = (peak - values) * np.float32(BINS / (peak - low))
        bins = np.minimum(steps.astype(np.intp), BINS - 1)  # a larger key never has a later bin
        sums = np.cumsum(np.bincount(bins, weights[rest], BINS))
        at = min(int(np.searchsorted(sums, wanted)), BINS - 1)
        wanted -= float(sums[at - 1]) if at else 0.0
        taken, rest = rest[bins < at], rest[bins == at]
    order = np.argsort(-keys[rest], kind="stable")
    sums = np.cumsum(weights[rest[order]], dtype=np.float64)
    count = int(np.searchsorted(sums, wanted)) + 1
    kept = np.zeros(len(keys), np.bool_)  # ascending without a sort
    kept[taken] = True
    kept[rest[order[:count]]] = True
    return np.flatnonzero(kept)


def _reaching(keys: Floats, weights: Floats, wanted: float) -> Indices:
    """Those down to some depth below the largest key that weigh at least `wanted`."""
    peak, depth = keys.max(), FIRST_DEPTH
    while depth < LAST_DEPTH:
        found = np.flatnonzero(keys >= peak - np.float32(depth))
        if float(weights[found].sum(dtype=np.float64)) >= wanted:
            return found
        depth *= DEEPER
    return np.arange(len(keys))
