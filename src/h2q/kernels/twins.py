"""The NumPy twin of every float operation, in the order of additions that the native form keeps
(docs/format.md is not concerned: nothing here touches a file). Plane operations have their twins in
`codec`, rotations in `geometry`.

Sums run over LANES accumulators, lane j taking elements j, LANES + j, ...; then the lanes are added
as a tree. That order is what a vector unit of any width up to 512 bits can reproduce exactly, so
both forms give the same bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.codec.activations import quantize
from h2q.codec.decode import decode_plane, gather_rows, matmul_planes
from h2q.codec.encode import encode_plane
from h2q.codec.planes import Activations, from_bfloat16
from h2q.core.attention import AttentionRule
from h2q.geometry.rotation import Rotation, rotate, unrotate

__all__ = [
    "attention",
    "decode_plane",
    "encode_plane",
    "exp",
    "gather_rows",
    "lane_sum",
    "matmul_dense",
    "matmul_planes",
    "quantize",
    "rms_norm",
    "rope",
    "rotate",
    "rotate_quantize",
    "swiglu",
    "unrotate",
]

FloatArray = npt.NDArray[np.float32]

LANES = 16
_ONE = np.float32(1)


def lane_sum(x: FloatArray) -> FloatArray:
    """Sum over the last axis in lane order: float32 (..., n) to (...)."""
    rest = -x.shape[-1] % LANES
    if rest:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], rest), np.float32)], axis=-1)
    total = np.zeros((*x.shape[:-1], LANES), np.float32)
    for begin in range(0, x.shape[-1], LANES):
        total = total + x[..., begin : begin + LANES]
    half = LANES // 2
    while half:
        total = total[..., :half] + total[..., half:]
        half //= 2
    return np.asarray(total[..., 0], np.float32)


def exp(x: FloatArray) -> FloatArray:
    """exp(x) to about one unit in the last place, x clamped to [-87, 88] (Cephes expf polynomial,
    Moshier).
    """
    f = np.float32
    x = np.maximum(np.minimum(x, f(88)), f(-87))
    n = np.rint(x * f(1.44269504))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440e-4)
    p = np.full_like(r, 1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        p = p * r + f(coefficient)
    p = ((p * (r * r)) + r) + _ONE
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.asarray(p * power, np.float32)


def rotate_quantize(x: FloatArray, rotation: Rotation) -> Activations:
    """rotate, then quantize: float32 (T, width). Raises KernelError when a value is not finite."""
    return quantize(rotate(x, rotation))


def matmul_dense(
    x: FloatArray, weights: npt.NDArray[np.float32] | npt.NDArray[np.uint16]
) -> FloatArray:
    """x W^T for weights that stay unencoded: x float32 (T, width), W (rows, width) float32, or
    bfloat16 as uint16. Returns float32 (T, rows).
    """
    wide = weights if weights.dtype == np.float32 else from_bfloat16(weights.view(np.uint16))
    out = np.empty((len(x), len(wide)), np.float32)
    for t, token in enumerate(x):
        out[t] = lane_sum(token * wide)
    return out


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """x / sqrt(mean(x^2) + eps) * weight, float32 (T, n) (Zhang and Sennrich 2019)."""
    mean = lane_sum(x * x) / np.float32(x.shape[-1])
    inverse = _ONE / np.sqrt(mean + np.float32(eps))
    return np.asarray((x * inverse[..., None]) * weight, np.float32)


def rope(x: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """Rotary positions in half-split order: x (T, heads, head_dim), cos and sin (T, head_dim / 2)
    (Su et al. 2021).
    """
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    c, s = cos[:, None], sin[:, None]
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def attention(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    start: int,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """Causal attention over a cache, grouped queries (Ainslie et al. 2023).

    q: float32 (B, T, H, hd). k: float32 (B, KV, capacity, hd), v (B, KV, capacity, vd), already
    holding positions 0 .. start + T - 1. Query t sees the last rule.window positions up to start +
    t. sinks: float32 (H,), the score of an entry without a value (Xiao et al. 2023), or None.
    Returns float32 (B, T, H, vd).
    """
    batch, tokens, heads, _ = q.shape
    groups = heads // k.shape[1]
    out = np.empty((batch, tokens, heads, v.shape[-1]), np.float32)
    for t in range(tokens):
        end = start + t + 1
        seen = slice(max(0, end - rule.window) if rule.window else 0, end)
        keys = np.repeat(k[:, :, seen], groups, axis=1)
        values = np.repeat(v[:, :, seen], groups, axis=1)
        scores = lane_sum(q[:, t, :, None, :] * keys) * np.float32(rule.scale)
        if rule.softcap:
            cap = np.float32(rule.softcap)
            scores = cap * (_ONE - np.float32(2) / (exp(scores / cap * np.float32(2)) + _ONE))
        best = scores.max(axis=-1)
        if sinks is not None:
            best = np.maximum(best, sinks)
        weights = exp(scores - best[..., None])
        norm = lane_sum(weights)
        if sinks is not None:
            norm = norm + exp(sinks - best)
        total = np.zeros_like(out[:, t])
        for p in range(values.shape[2]):
            total = total + weights[..., p, None] * values[:, :, p]
        out[:, t] = total / norm[..., None]
    return out


def swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """silu(gate) * up, float32 (T, n) (Shazeer 2020)."""
    return np.asarray(gate / (_ONE + exp(-gate)) * up, np.float32)
