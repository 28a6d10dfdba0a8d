"""Which experts should stay in memory: those used most lately, or those used last?

Choices are drawn for the layers of DeepSeek-V2-Lite, expert r of a layer with odds r ** -skew, with
room for 480 of 1,664.

    python benchmarks/expert_rooms.py
"""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np

from h2q.engine.expert_room import BASE, ExpertRoom

LAYERS, EXPERTS, CHOSEN, ROOM = 26, 64, 6, 480
TOKENS, WARM = 300, 100
SKEWS = (0.0, 0.5, 1.0)


class LastUsed:
    """The least recently used leaves."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, None] = OrderedDict()

    def use(self, expert: int) -> bool:
        """Whether it was there."""
        found = expert in self._held
        self._held[expert] = None
        self._held.move_to_end(expert)
        if len(self._held) > ROOM:
            self._held.popitem(last=False)
        return found


def hit_rates(skew: float, seed: int = 0) -> tuple[float, float]:
    """Of ExpertRoom, and of LastUsed."""
    draw = np.random.default_rng(seed)
    sizes = np.stack([np.ones(LAYERS * EXPERTS, np.int64), np.zeros(LAYERS * EXPERTS, np.int64)])
    room, last = ExpertRoom(sizes, ROOM, alone=True), LastUsed()
    odds = [-skew * np.log1p(draw.permutation(EXPERTS)) for _ in range(LAYERS)]
    ours = theirs = 0
    for token in range(TOKENS):
        room.age(1)
        for layer in range(LAYERS):
            drawn = odds[layer] + draw.gumbel(size=EXPERTS)
            chosen = np.sort(np.argsort(-drawn)[:CHOSEN]) + layer * EXPERTS
            room.note(chosen, np.ones(CHOSEN, np.int64))
            room.wanted[:] = False
            room.wanted[chosen] = True
            for expert in map(int, chosen):
                there, kept = bool(room.resident[BASE, expert]), last.use(expert)
                if token >= WARM:
                    ours, theirs = ours + there, theirs + kept
                if not there:
                    room.take(BASE, expert)
                    room.arrive(BASE, expert)
    runs = (TOKENS - WARM) * LAYERS * CHOSEN
    return ours / runs, theirs / runs


if __name__ == "__main__":
    sys.stdout.write(f"room for {ROOM / LAYERS / EXPERTS:.1%} of all\n")
    for skew in SKEWS:
        ours, theirs = hit_rates(skew)
        sys.stdout.write(f"skew {skew}: used most {ours:.1%}, used last {theirs:.1%}\n")
