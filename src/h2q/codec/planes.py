"""The arrays that travel between files, encoder and kernels: a coded plane and quantized
activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.codec.layout import PanelLayout
from h2q.core.specs import PlaneSpec

ACTIVATION_PADDING = 32


@dataclass(frozen=True)
class Plane:
    """One coded plane: weight (i, j) is scale[i] * level(i, j).

    codes: uint8 (panels, lines, 64). scales: bfloat16 bits as uint16, (rows rounded up to 32,), pad
    entries zero.
    """

    spec: PlaneSpec
    codes: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.uint16]

    @property
    def layout(self) -> PanelLayout:
        return PanelLayout.of(self.spec)

    @property
    def byte_count(self) -> int:
        return self.codes.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class Activations:
    """Quantized inputs of T tokens: codes int8 (T, width rounded up to 32), scale float32 (T,),
    sums int32 (T,).
    """

    codes: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    sums: npt.NDArray[np.int32]


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round float32 to the nearest bfloat16 (ties to even); returns the bits. Values must be
    finite.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Widen bfloat16 bits to float32; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
