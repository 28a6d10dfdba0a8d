"""Which refinement planes a crystal gets: ranked by measured quality per byte, until the bytes are
spent.

Every candidate (one refinement of one tensor) is measured by itself on top of the base: the drop of
the mean KL divergence it brings to the whole network. Gains are taken as additive, which holds well
while they are small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A refinement of `tensor` with `bits` per weight costs `bytes` and lowers the KL divergence by
    `gain` nats.
    """

    tensor: str
    bits: int
    bytes: int
    gain: float


@dataclass(frozen=True)
class _Step:
    efficiency: float
    bytes: int
    candidate: Candidate


def choose(candidates: Iterable[Candidate], budget: int) -> list[Candidate]:
    """At most one candidate per tensor, best gain per byte first, together within `budget` bytes.

    Greedy over the upper hull of each tensor's choices; a later step of a tensor replaces its
    earlier one.
    """
    steps: list[_Step] = []
    for choices in _by_tensor(candidates).values():
        steps += _hull(choices)
    steps.sort(key=lambda step: -step.efficiency)
    chosen: dict[str, Candidate] = {}
    for step in steps:
        tensor = step.candidate.tensor
        before = chosen.get(tensor)
        cost = step.candidate.bytes - (before.bytes if before else 0)
        if cost <= budget:
            budget -= cost
            chosen[tensor] = step.candidate
    return sorted(chosen.values(), key=lambda c: -c.gain / c.bytes)


def _by_tensor(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.gain > 0:
            found.setdefault(candidate.tensor, []).append(candidate)
    return found


def _hull(choices: list[Candidate]) -> list[_Step]:
    """Steps of falling efficiency along the upper hull of (bytes, gain), from nothing."""
    steps: list[_Step] = []
    bytes_so_far, gain_so_far = 0, 0.0
    left = sorted(choices, key=lambda c: c.bytes)
    while left:
        best = max(left, key=lambda c: (c.gain - gain_so_far) / (c.bytes - bytes_so_far))
        efficiency = (best.gain - gain_so_far) / (best.bytes - bytes_so_far)
        if efficiency <= 0:
            break
        steps.append(_Step(efficiency, best.bytes - bytes_so_far, best))
        bytes_so_far, gain_so_far = best.bytes, best.gain
        left = [c for c in left if c.bytes > best.bytes]
    return steps


def groups(chosen: list[Candidate], count: int) -> list[list[Candidate]]:
    """Cut a ranked list into at most `count` groups of about equal bytes, order kept."""
    total = sum(candidate.bytes for candidate in chosen)
    out: list[list[Candidate]] = []
    spent = 0
    for candidate in chosen:
        if not out or spent * count >= total * len(out):
            out.append([])
        out[-1].append(candidate)
        spent += candidate.bytes
    return out
