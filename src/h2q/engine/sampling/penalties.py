"""What was said before makes itself less likely: repeat, presence and frequency penalties."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Recent:
    """How often each token occurs among the last `window` ones (-1: all). A token costs the same
    however many were there.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._last: deque[int] = deque()
        self._slots: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.int64)

    def add(self, token: int) -> None:
        if self._window == 0:
            return
        if self._window > 0:
            if len(self._last) == self._window:
                self._drop(self._last.popleft())
            self._last.append(token)
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[slot] = token
        self._counts[slot] += 1

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.add(token)

    def counts(self) -> tuple[Ids, Ids]:
        """Distinct tokens and their counts, in no order; views, valid until the next `add`."""
        size = len(self._slots)
        return self._ids[:size], self._counts[:size]

    def _drop(self, token: int) -> None:
        slot = self._slots[token]
        self._counts[slot] -= 1
        if self._counts[slot]:
            return
        end = len(self._slots) - 1  # the last slot moves into the hole
        moved = int(self._ids[end])
        self._ids[slot], self._counts[slot] = moved, self._counts[end]
        self._slots[moved] = slot
        self._counts[end] = 0
        del self._slots[token]


def penalized(
    values: FloatArray, counts: Ids, repeat: float, presence: float, frequency: float
) -> FloatArray:
    """Logits of seen tokens, lowered: float32 (n,) with int64 (n,) counts, all at least 1.

    repeat: x / r where x > 0, else x * r (Keskar et al. 2019); then x - presence - frequency *
    count (OpenAI).
    """
    lowered = np.where(values > 0, values / np.float32(repeat), values * np.float32(repeat))
    return np.asarray(lowered - np.float32(presence) - np.float32(frequency) * counts, np.float32)
