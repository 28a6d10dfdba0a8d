"""Rotary positions (Su et al. 2021): the angles of every row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.core.specs import ModelSpec
from h2q.engine.projections import FloatArray


@dataclass(frozen=True)
class Positions:
    """Cosines and sines of the position of every row, float32 (rows, rope_dim / 2)."""

    cos: FloatArray
    sin: FloatArray

    @classmethod
    def at(cls, spec: ModelSpec, positions: npt.NDArray[np.int64]) -> Positions:
        """Rotary angles of positions int64 (rows,)."""
        # Angles are rounded to float32 before the cosine, as Hugging Face does: models were trained
        # that way.
        angles = (positions.astype(np.float32)[:, None] * frequencies(spec)).astype(np.float64)
        return cls(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    @classmethod
    def of(cls, spec: ModelSpec, start: int, batch: int, length: int) -> Positions:
        """Those of `batch` texts that go from `start` to start + length."""
        return cls.at(spec, np.tile(np.arange(start, start + length), batch))


def frequencies(spec: ModelSpec) -> FloatArray:
    """Rotary frequencies, float32 (rope_dim / 2,)."""
    powers = np.arange(0, spec.rope_dim, 2, dtype=np.float32) / np.float32(spec.rope_dim)
    return np.asarray(1.0 / np.float32(spec.rope_theta) ** powers, np.float32)
