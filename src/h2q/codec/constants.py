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
    2: (10, 27, 7, 1, 18, 8, 4, 20, 12, 18, 11, 18),
    1: (17, 24, 4, 1, 4, 0, 14, 24, 6, 8, 28, 19),
}

# Level tables for a unit Gaussian, by index. Found by random search over linear maps with Lloyd
# iterations.
_GAUSSIAN: Final[dict[int, tuple[float, ...]]] = {
    2: (
        *(-2.3502, -1.6680, -1.5021, -1.2705, -1.0761, -0.9513, -0.8823, -0.8268),
        *(-0.5562, -0.5304, -0.4833, -0.4391, -0.2376, -0.1861, -0.1340, -0.1042),
        *(0.0921, 0.1436, 0.1824, 0.2322, 0.4232, 0.4842, 0.5402, 0.5778),
        *(0.8148, 0.8662, 0.9465, 1.0937, 1.2939, 1.4894, 1.6830, 2.3555),
    ),
    1: (
        *(-1.9561, -1.4709, -1.2541, -1.1306, -0.9182, -0.8104, -0.7247, -0.6561),
        *(-0.5749, -0.5563, -0.4252, -0.3983, -0.2093, -0.2319, -0.1644, -0.1469),
        *(0.1590, 0.1328, 0.2339, 0.2258, 0.4194, 0.4519, 0.4759, 0.5653),
        *(0.6331, 0.7651, 0.8415, 0.9362, 1.1287, 1.2439, 1.4874, 1.9707),
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
