"""Crystals of shapes with experts and random codes, written plane by plane from one pool of random
bytes: speed and memory do not depend on what the codes say.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.bench.materials import aligned
from h2q.bench.random_model import REFINEMENT, scales
from h2q.codec.constants import LANES
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.architecture import Part, coded, tensors
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.crystal import CrystalWriter

POOL = 256 << 20  # bytes of random codes; every plane takes its own from some place among them
LOUD = 4.0  # of what a layer adds


class Codes:
    """Planes whose codes are a part of the pool."""

    def __init__(self, pool: int = POOL, seed: int = 0) -> None:
        self.draw = np.random.default_rng(seed)
        self._pool = aligned(pool)
        self._pool.view(np.uint64)[:] = self.draw.integers(0, 1 << 64, pool // 8, np.uint64)

    def plane(self, spec: PlaneSpec, share: float) -> Plane:
        """Random codes; scales that keep the size of what is multiplied, times `share`."""
        layout = PanelLayout.of(spec)
        size = layout.panels * layout.lines * LANES
        lines = (len(self._pool) - size) // LANES
        if lines < 0:
            self._pool = np.tile(self._pool, -(-size // len(self._pool)))
            lines = (len(self._pool) - size) // LANES
        begin = int(self.draw.integers(0, lines + 1)) * LANES
        codes = self._pool[begin : begin + size].reshape(layout.code_shape)
        return Plane(spec, codes, scales(layout, share))


def write_mixture(
    target: Path,
    spec: ModelSpec,
    bits: tuple[int, ...] = (2,),
    skew: float = 0.0,
    seed: int = 0,
    tokenizer: str | None = None,
    pool: int = POOL,
) -> None:
    """A crystal at `target` whose parts all have planes of `bits`, one shard per plane. Routers are
    Gaussian; with `skew` the row of the expert of rank r (another order in every layer) is made
    r ** -skew times as long, so that few experts are chosen most. Raises what CrystalWriter raises.
    """
    codes = Codes(pool, seed)
    with CrystalWriter(target, spec, seed) as writer:
        for tensor in tensors(spec):
            if not tensor.coded:
                writer.add_raw(tensor.name, _raw(codes.draw, tensor, skew))
        parts = coded(spec)
        for part in parts:
            stack = [
                codes.plane(PlaneSpec(plane, *part.shape), _loudness(part) * REFINEMENT**index)
                for index, plane in enumerate(bits)
            ]
            writer.add_planes(part.name, stack)
        writer.rank([[(part.name, index) for part in parts] for index in range(1, len(bits))])
        if tokenizer is not None:
            writer.tokenizer(tokenizer)
        writer.commit()


def _loudness(part: Part) -> float:
    """Tokens are louder than what attention answers all of them alike, so that routers tell them
    apart.
    """
    return LOUD * math.sqrt(part.shape[1]) if part.tensor.kind == "embedding" else 1.0


def _raw(draw: np.random.Generator, tensor: TensorSpec, skew: float) -> npt.NDArray[np.float32]:
    if tensor.kind == "norm":
        return np.ones(tensor.shape, np.float32)
    if len(tensor.shape) == 1:
        return np.zeros(tensor.shape, np.float32)
    rows, cols = tensor.shape
    values: npt.NDArray[np.float32] = draw.standard_normal((rows, cols), np.float32) * np.float32(
        2 / math.sqrt(cols)
    )
    if skew and tensor.name.endswith(".gate.weight"):
        ranks = 1.0 + draw.permutation(rows)
        values *= (ranks**-skew).astype(np.float32)[:, None]
    return values
