"""Which experts' planes have a place in a room of so many bytes, and which must leave for others.

An expert is worth as much as it was used lately: every use counts one and halves with HALF_LIFE
tokens, in and out of memory alike. So what was read once for a rare choice leaves first, and a
router that chooses evenly does not turn everything over (as the least recently used would: layers
come round in order, and what is about to be used is always the oldest). Where an expert answers
without them, planes above the base are worth less than base planes used as much; where it waits for
them, as much: half an expert saves no waiting. Of one expert they go first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BASE, ABOVE = 0, 1
HALF_LIFE = 128.0  # tokens
ABOVE_WORTH = 0.25  # of what the base is worth, where that can answer alone
LARGEST = 1e100  # of what a use counts; then all are made smaller

IntArray = npt.NDArray[np.int64]
Place = tuple[int, int]  # BASE or ABOVE, number of the expert


class ExpertRoom:
    """sizes: bytes, int64 (2, experts), by level. `alone`: an expert's base answers where the rest
    is missing. Raises nothing; not for several threads at once.
    """

    def __init__(self, sizes: IntArray, budget: int, alone: bool) -> None:
        self.sizes, self.budget, self.alone = sizes, budget, alone
        self.worth = np.zeros(sizes.shape[1])
        self.resident = np.zeros(sizes.shape, np.bool_)
        self.coming = np.zeros(sizes.shape, np.bool_)  # have their place, are not there yet
        self.busy = np.zeros(sizes.shape[1], np.bool_)  # at work: must not leave
        self.wanted = np.zeros(sizes.shape[1], np.bool_)  # soon: leave when nothing else is left
        self.used = self.peak = 0
        self._use = 1.0

    def age(self, tokens: int) -> None:
        """So many tokens have passed."""
        self._use *= 2.0 ** (min(tokens, 1 << 12) / HALF_LIFE)
        if self._use > LARGEST:
            self.worth /= self._use
            self._use = 1.0

    def note(self, experts: IntArray, uses: IntArray) -> None:
        """Experts, each once, were used so many times."""
        self.worth[experts] += self._use * uses

    def take(self, level: int, expert: int, urgent: bool = True) -> list[Place] | None:
        """Give planes a place; what had to leave for them, already marked as gone. None when they
        are worth less than what would have to leave, or, where it is `urgent`, when all that is
        left is at work.
        """
        size = int(self.sizes[level, expert])
        worth = np.inf if urgent else self._worths()[level, expert]
        leaving: list[Place] = []
        while self.used + size > self.budget:
            place = self.least_worthy(expert, worth, self.wanted)
            if place is None and urgent:
                place = self.least_worthy(expert, worth)
            if place is None:
                for at, who in leaving:
                    self.resident[at, who] = True
                    self.used += int(self.sizes[at, who])
                return None
            self.leave(*place)
            leaving.append(place)
        self.used += size
        self.peak = max(self.peak, self.used)
        self.coming[level, expert] = True
        return leaving

    def arrive(self, level: int, expert: int) -> None:
        """What has a place is there."""
        self.coming[level, expert] = False
        self.resident[level, expert] = True

    def leave(self, level: int, expert: int) -> None:
        """What is there gives up its place."""
        self.resident[level, expert] = False
        self.used -= int(self.sizes[level, expert])

    def least_worthy(
        self,
        besides: int = -1,
        below: float = np.inf,
        spared: npt.NDArray[np.bool_] | None = None,
    ) -> Place | None:
        """What leaves next, worth less than `below`; None when that is nothing."""
        worth = self._worths()
        worth[~self.resident | self.busy] = np.inf
        worth[BASE, self.resident[ABOVE] | self.coming[ABOVE]] = np.inf
        if spared is not None:
            worth[:, spared] = np.inf
        if besides >= 0:
            worth[:, besides] = np.inf
        victim = int(np.argmin(worth))
        return divmod(victim, len(self.worth)) if worth.flat[victim] < below else None

    def _worths(self) -> npt.NDArray[np.float64]:
        return np.stack([self.worth, self.worth * (ABOVE_WORTH if self.alone else 1.0)])
