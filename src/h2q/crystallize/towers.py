"""A matrix becomes a tower of planes: each codes what the planes before it left over, with its own
row scales.

Row scales are re-fitted after encoding: the scale that minimises the row's error under the moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from h2q import kernels
from h2q.codec.constants import UNIT
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, from_bfloat16, to_bfloat16
from h2q.core.specs import PlaneSpec
from h2q.crystallize.moments import FloatArray, Moments, damped, feedback

SMALLEST_SCALE = np.float32(1e-30)


@dataclass(frozen=True)
class Encoded:
    """A plane, what it leaves over (float32, rotated basis), and its proxy error tr(E H E^T) / tr(W
    H W^T).
    """

    plane: Plane
    rest: FloatArray
    error: float
    mse: float


def encode(
    rest: FloatArray,
    bits: int,
    moments: Moments,
    damping: float,
    reference: FloatArray,
    progress: Callable[[float], bool] | None = None,
) -> Encoded:
    """Code `rest` (rotated weights, or what earlier planes left of them) in one plane of `bits`.

    rest, reference: float32 (rows, cols); moments: float64 (cols, cols); reference are the rotated
    original weights.
    """
    weighted = damped(moments, damping)
    scale = np.sqrt(np.mean(rest.astype(np.float64) ** 2, axis=1)) / UNIT[bits]
    scale = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
    codes = kernels.encode_plane(rest / scale[:, None], bits, feedback(weighted), progress=progress)
    spec = PlaneSpec(bits, *rest.shape)
    levels = kernels.decode_plane(spec, codes).astype(np.float32)
    scales = to_bfloat16(_fitted(rest, levels, moments, scale))
    left = rest - from_bfloat16(scales)[:, None] * levels
    padded = np.zeros(PanelLayout.of(spec).scale_count, np.uint16)
    padded[: len(scales)] = scales
    return Encoded(
        plane=Plane(spec, codes, padded),
        rest=left,
        error=_cost(left, moments) / max(_cost(reference, moments), 1e-30),
        mse=float(np.mean(left**2) / max(float(np.mean(reference**2)), 1e-30)),
    )


def _fitted(
    rest: FloatArray, levels: FloatArray, moments: Moments, fallback: FloatArray
) -> FloatArray:
    """argmin over s of (w - s q) H (w - s q)^T per row, under lightly damped moments; the start
    where q is silent.
    """
    light = damped(moments, 0.01).astype(np.float32)
    turned = levels @ light
    above = np.einsum("ij,ij->i", turned, rest, dtype=np.float64)
    below = np.einsum("ij,ij->i", turned, levels, dtype=np.float64)
    fitted = above / np.maximum(below, 1e-30)
    return np.where(fitted > 0, fitted, fallback).astype(np.float32)


def _cost(error: FloatArray, moments: Moments) -> float:
    return float(np.einsum("ij,ij->", error @ moments.astype(np.float32), error, dtype=np.float64))
