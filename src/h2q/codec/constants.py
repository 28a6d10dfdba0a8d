"""The frozen constants of the trellis code, format version 1: two linear maps and two level tables.

A state of WINDOW bits selects one of 32 levels through a GF(2)-linear map: level index = XOR of
COLUMNS[bits][b] over the set bits b of the state (a convolutional code). Levels are whole numbers
within +-LEVEL_LIMIT so that an offset of LEVEL_OFFSET makes them unsigned seven-bit numbers, which
no multiply-add instruction saturates on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

WINDOW: Final = 12
STATES: Final = 1 << WINDOW
LANES: Final = 64
COLUMN_GROUP: Final = 4
LEVEL_LIMIT: Final = 63
LEVEL_OFFSET: Final = 64

COLUMNS: Final[dict[int, tuple[int, ...]]] = {
    2: (16, 25, 16, 20, 30, 22, 18, 21, 22, 11, 16, 9),
    1: (18, 8, 7, 25, 21, 5, 5, 10, 16, 21, 29, 16),
}

# Level tables for a unit Gaussian, by index. Found by tools/code_search: random maps, then changes
# of a column at a time, levels by Lloyd iterations.
_GAUSSIAN: Final[dict[int, tuple[float, ...]]] = {
    2: (
        *(-2.3601, -1.7285, -1.4699, -1.2801, -1.1247, -1.0186, -0.8339, -0.7552),
        *(-0.6400, -0.6081, -0.4444, -0.3724, -0.2633, -0.2296, -0.0974, -0.0398),
        *(0.0431, 0.0845, 0.2497, 0.3073, 0.4110, 0.4768, 0.6023, 0.5999),
        *(0.7525, 0.8614, 1.0105, 1.1278, 1.2690, 1.5072, 1.6890, 2.3389),
    ),
    1: (
        *(-1.9297, -1.4057, -1.3134, -1.1501, -0.8433, -0.8199, -0.7857, -0.5614),
        *(-0.5220, -0.4400, -0.4588, -0.4440, -0.1165, -0.2729, -0.2379, -0.1207),
        *(0.2114, 0.2804, 0.2757, 0.0573, 0.4112, 0.4439, 0.4966, 0.5320),
        *(0.7604, 0.6898, 0.9202, 0.9051, 1.1638, 1.4720, 1.1953, 1.9722),
    ),
}

# One unit of the Gaussian in level units: row scale = standard deviation / UNIT[bits].
UNIT: Final[dict[int, float]] = {
    bits: LEVEL_LIMIT / max(abs(level) for level in table) for bits, table in _GAUSSIAN.items()
}

LEVELS: Final[dict[int, npt.NDArray[np.int8]]] = {
    bits: np.rint(np.array(table) * UNIT[bits]).astype(np.int8) for bits, table in _GAUSSIAN.items()
}


def state_levels(bits: int) -> npt.NDArray[np.int8]:
    """Level of every state, int8 (STATES,)."""
    states = np.arange(STATES)
    index = np.zeros(STATES, np.int64)
    for bit, column in enumerate(COLUMNS[bits]):
        index ^= np.where(states >> bit & 1, column, 0)
    return LEVELS[bits][index]
