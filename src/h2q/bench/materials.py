"""Matrices and inputs that benchmarks work on: random codes in memory of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.constants import LANES
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Activations, Plane, to_bfloat16
from h2q.core.specs import PlaneSpec

PANEL_ROWS = 256
ALIGNMENT = 4096  # crystals are mapped on page borders
PIECE = 1 << 20
TRIAL_BELOW = 64  # MiB: smaller memory lies in caches, so such a run only shows that all rows work


@dataclass(frozen=True)
class Sizes:
    """What is measured. `mebibytes` of codes at two bits decide the rows of the large matrix;
    `seconds` is the time each group of rows is repeated for, `sample` the least time of a sample.
    """

    mebibytes: int
    width: int = 4096
    cached_mebibytes: tuple[float, ...] = (0.5, 8.0)
    prefill: tuple[int, int] = (2048, 8192)
    prefill_tokens: tuple[int, ...] = (256, 512)
    batches: tuple[int, ...] = (2, 4, 8, 16)
    small: tuple[int, int] = (256, 768)
    dense: tuple[int, int] = (8192, 4096)
    embedding: tuple[int, int] = (32768, 2048)
    gathered: int = 256
    meetings: int = 256
    seconds: float = 4.0
    sample: float = 0.004

    @classmethod
    def of(cls, mebibytes: int) -> Sizes:
        """The sizes of a full run, or those of a trial where there is little memory to read."""
        if mebibytes >= TRIAL_BELOW:
            return cls(mebibytes)
        return cls(
            mebibytes,
            width=1024,
            cached_mebibytes=(0.125, 0.25),
            prefill=(256, 512),
            dense=(256, 1024),
            embedding=(1024, 512),
            gathered=16,
            meetings=4,
            seconds=0.02,
            sample=0.0001,
        )

    @property
    def rows(self) -> int:
        """Rows of the large matrix at two bits."""
        return max(PANEL_ROWS, self.rows_of(self.mebibytes))

    def rows_of(self, mebibytes: float) -> int:
        """Rows whose codes at two bits take so much memory, in whole panels, at least one."""
        rows = int(mebibytes * (1 << 20)) * 4 // self.width
        return max(PANEL_ROWS, rows // PANEL_ROWS * PANEL_ROWS)


class Materials:
    """Codes and inputs of one run, drawn from one generator."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.draw = np.random.default_rng(0)

    def plane(self, bits: int, rows: int, cols: int) -> Plane:
        """A plane of random codes; every row has the scale 0.01."""
        spec = PlaneSpec(bits, rows, cols)
        layout = PanelLayout.of(spec)
        codes = aligned(layout.panels * layout.lines * LANES).view(np.uint64)
        for at in range(0, len(codes), PIECE):
            part = codes[at : at + PIECE]
            part[:] = self.draw.integers(0, 1 << 64, len(part), np.uint64)
        return Plane(spec, codes.view(np.uint8).reshape(layout.code_shape), _scales(layout))

    def inputs(self, width: int, tokens: int = 1) -> Activations:
        """Quantized Gaussian inputs."""
        return kernels.quantize(self.floats(tokens, width))

    def floats(self, *shape: int) -> npt.NDArray[np.float32]:
        """Gaussian float32."""
        return self.draw.standard_normal(shape, np.float32)

    @cached_property
    def two(self) -> Plane:
        """The large matrix at two bits."""
        return self.plane(2, self.sizes.rows, self.sizes.width)

    @cached_property
    def refinements(self) -> tuple[Plane, Plane, Plane]:
        """Planes of 2, 1 and 1 bits that refine it."""
        rows, width = self.sizes.rows, self.sizes.width
        return self.plane(2, rows, width), self.plane(1, rows, width), self.plane(1, rows, width)

    @cached_property
    def one(self) -> Plane:
        """The same codes as `two`, read as one bit per weight: twice the rows."""
        spec = PlaneSpec(1, 2 * self.sizes.rows, self.sizes.width)
        layout = PanelLayout.of(spec)
        return Plane(spec, self.two.codes.reshape(layout.code_shape), _scales(layout))


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Memory of so many bytes that begins on a page border, as a mapped crystal does."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]


def first_rows(plane: Plane, rows: int) -> Plane:
    """The first rows of a plane, whole panels, in place."""
    spec = PlaneSpec(plane.spec.bits, rows, plane.spec.cols)
    layout = PanelLayout.of(spec)
    return Plane(spec, plane.codes[: layout.panels], plane.scales[: layout.scale_count])


def words(plane: Plane) -> npt.NDArray[np.uint64]:
    """The codes of a plane as uint64 (n,), in place."""
    return plane.codes.reshape(-1).view(np.uint64)


def code_bytes(planes: Sequence[Plane]) -> int:
    """Bytes of their codes."""
    return sum(plane.codes.nbytes for plane in planes)


def _scales(layout: PanelLayout) -> npt.NDArray[np.uint16]:
    return to_bfloat16(np.full(layout.scale_count, 0.01, np.float32))
