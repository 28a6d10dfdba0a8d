"""What a person may choose about a crystal before it grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2q.core.errors import UsageError

MAX_SEED = (1 << 31) - 1


@dataclass(frozen=True)
class Options:
    """`ratio`: bytes of the original in float32 over bytes of the crystal, at least this.

    `seed` picks the rotation and all text that is sampled. `calibration` is a text of the person's
    own; without one the original model is asked for `calibration_streams` texts of
    `calibration_length` tokens. `measure_*` likewise, for the certificate: always sampled, at
    temperature 1, from other seeds. Dampings are relative to the mean of the moments' diagonal (see
    moments.feedback).
    """

    ratio: float = 12.5
    seed: int = 0
    calibration: str | None = None
    calibration_streams: int = 24
    calibration_length: int = 1023
    rank_streams: int = 4
    measure_streams: int = 16
    measure_length: int = 512
    base_damping: float = 0.3
    refine_damping: float = 0.1
    embedding_identity: float = 2.0
    ridge: float = 0.1
    groups: int = 4

    def __post_init__(self) -> None:
        if not math.isfinite(self.ratio) or not 1 < self.ratio <= 64:
            raise UsageError(f"ratio must be above 1 and at most 64, not {self.ratio!r}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed must be from 0 to {MAX_SEED:,}, not {self.seed!r}.")
