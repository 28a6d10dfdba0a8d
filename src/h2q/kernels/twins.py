"""The NumPy twin of every float operation, in the order of additions that the native form keeps
(docs/format.md is not concerned: nothing here touches a file). Plane operations have their twins in
`codec`, rotations in `geometry`, attention over pages in `paged_twins`. Sums run in lane order
(`sums`), so that both forms give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from h2q.codec.activations import quantize
from h2q.codec.decode import decode_plane, gather_rows, matmul_planes
from h2q.codec.encode import encode_plane
from h2q.codec.planes import Activations, from_bfloat16
from h2q.codec.rounded import matmul_rounded
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.core.specs import CLAMPED_LIMIT, CLAMPED_SLOPE
from h2q.geometry.rotation import Rotation, rotate, unrotate
from h2q.kernels.prepared import PlaneStack
from h2q.kernels.sums import BLOCK, ONE, exp, lane_sum

__all__ = [
    "add_rms_norm",
    "attention",
    "clamped_swiglu",
    "decode_plane",
    "embed_rows",
    "encode_plane",
    "exp",
    "gather_rows",
    "geglu",
    "lane_sum",
    "matmul_dense",
    "matmul_planes",
    "matmul_rounded",
    "project",
    "quantize",
    "rms_norm",
    "rope",
    "rotate",
    "rotate_quantize",
    "softmax_top",
    "swiglu",
    "unrotate",
]

FloatArray = npt.NDArray[np.float32]
SLOPE, LIMIT = np.float32(CLAMPED_SLOPE), np.float32(CLAMPED_LIMIT)


def rotate_quantize(x: FloatArray, rotation: Rotation) -> Activations:
    """rotate, then quantize: float32 (T, width). Raises KernelError when a value is not finite."""
    return quantize(rotate(x, rotation))


def project(
    x: FloatArray, rotation: Rotation, stacks: Sequence[PlaneStack]
) -> tuple[FloatArray, ...]:
    """rotate_quantize, then matmul_planes with every stack: float32 (T, width) to one float32 (T,
    rows) per stack. Raises KernelError when a value is not finite.
    """
    inputs = rotate_quantize(x, rotation)
    return tuple(matmul_planes(inputs, stack.planes) for stack in stacks)


def embed_rows(stack: PlaneStack, ids: npt.NDArray[np.int64], rotation: Rotation) -> FloatArray:
    """gather_rows, then unrotate: rows int64 (T,) of a matrix, float32 (T, width)."""
    return unrotate(gather_rows(stack.planes, ids), rotation)


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
    inverse = ONE / np.sqrt(mean + np.float32(eps))
    return np.asarray((x * inverse[..., None]) * weight, np.float32)


def add_rms_norm(
    x: FloatArray, delta: FloatArray, weight: FloatArray, eps: float
) -> tuple[FloatArray, FloatArray]:
    """x + delta and its rms_norm, each float32 (T, n)."""
    total = x + delta
    return total, rms_norm(total, weight, eps)


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
            scores = cap * (ONE - np.float32(2) / (exp(scores / cap * np.float32(2)) + ONE))
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
    return np.asarray(gate / (ONE + exp(-gate)) * up, np.float32)


def geglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """gelu(gate) * up with the tanh form of the Gaussian error linear unit, float32 (T, n)
    (Hendrycks and Gimpel 2016): (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), u = sqrt(2 / pi) (gate +
    0.044715 gate^3). Gates are taken as within +-1e4, where the unit is straight.
    """
    g = np.maximum(np.minimum(gate, np.float32(1e4)), np.float32(-1e4))
    u = (g + (g * g) * g * np.float32(0.044715)) * np.float32(0.79788456)
    return np.asarray(gate / (ONE + exp(u * np.float32(-2))) * up, np.float32)


def clamped_swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """gate sigmoid(1.702 gate) (up + 1), gates at most 7, ups within +-7, float32 (T, n) (gpt-oss,
    OpenAI 2025).
    """
    g, u = np.minimum(gate, LIMIT), np.maximum(np.minimum(up, LIMIT), -LIMIT)
    return np.asarray(g / (ONE + exp(g * -SLOPE)) * (u + ONE), np.float32)


def softmax_top(
    logits: FloatArray, k: int
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Of logits x float32 (T, n), n at least k: the largest (T,), sum exp(x - largest) and sum (x -
    largest) exp(x - largest), float64 (T,), and where the k largest are, int64 (T, k), the lower
    id first where they are equal. Log Z = largest + log(sum), entropy = log(sum) - product / sum.
    -inf forbids an entry; what lies more than 87 below is nothing. Raises KernelError for NaN, for
    +inf, and where all are forbidden.
    """
    if not 1 <= k <= logits.shape[1]:
        raise KernelError(f"The top {k} of {logits.shape[1]} entries cannot be given.")
    best = logits.max(axis=1, initial=-np.inf) + np.float32(0)
    if not np.isfinite(best).all():
        raise KernelError(
            "The logits are not finite numbers, or forbid everything.",
            fix="Weights are damaged (h2q verify tells), or a constraint leaves nothing to say.",
        )
    below = logits - best[:, None]
    weights = np.where(below < np.float32(-87), np.float32(0), exp(below))
    below = np.maximum(below, np.float32(-87))
    norm, product = np.zeros(len(logits)), np.zeros(len(logits))
    for begin in range(0, logits.shape[1], BLOCK):
        part = slice(begin, begin + BLOCK)
        norm += lane_sum(weights[:, part])
        product += lane_sum(weights[:, part] * below[:, part])
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int64)
    return best, norm, product, order
