"""The operations the engine is made of, each sent to the active path. Shapes and formulas: `twins`,
`codec.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import Activations, Plane
from h2q.codec.rounded import RoundedMatrix
from h2q.core.attention import AttentionRule
from h2q.core.specs import PlaneSpec
from h2q.geometry.rotation import Rotation
from h2q.kernels.paths import implementation
from h2q.kernels.prepared import PlaneStack

FloatArray = npt.NDArray[np.float32]
DenseArray = npt.NDArray[np.float32] | npt.NDArray[np.uint16]


def rotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """R x per token: float32 (T, width)."""
    out: FloatArray = implementation().rotate(x, rotation)
    return out


def unrotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """R^T x per token: float32 (T, width)."""
    out: FloatArray = implementation().unrotate(x, rotation)
    return out


def quantize(x: FloatArray) -> Activations:
    """int8 codes with one scale per token. Raises KernelError when a value is not finite."""
    out: Activations = implementation().quantize(x)
    return out


def rotate_quantize(x: FloatArray, rotation: Rotation) -> Activations:
    """rotate, then quantize, in one pass. Raises KernelError when a value is not finite."""
    out: Activations = implementation().rotate_quantize(x, rotation)
    return out


def matmul_planes(activations: Activations, planes: Sequence[Plane]) -> FloatArray:
    """Stacked planes times quantized inputs: float32 (T, rows)."""
    out: FloatArray = implementation().matmul_planes(activations, planes)
    return out


def matmul_rounded(activations: Activations, matrix: RoundedMatrix) -> FloatArray:
    """A matrix rounded to seven bits times quantized inputs: float32 (T, rows)."""
    out: FloatArray = implementation().matmul_rounded(activations, matrix)
    return out


def matmul_dense(x: FloatArray, weights: DenseArray) -> FloatArray:
    """Unencoded weights (rows, width), float32 or bfloat16 as uint16, times inputs: float32 (T,
    rows).
    """
    out: FloatArray = implementation().matmul_dense(x, weights)
    return out


def gather_rows(planes: Sequence[Plane], ids: npt.NDArray[np.int64]) -> FloatArray:
    """Rows of a coded matrix, still rotated: float32 (T, cols)."""
    out: FloatArray = implementation().gather_rows(planes, ids)
    return out


def embed_rows(stack: PlaneStack, ids: npt.NDArray[np.int64], rotation: Rotation) -> FloatArray:
    """Rows of a coded matrix, rotated back: float32 (T, width)."""
    out: FloatArray = implementation().embed_rows(stack, ids, rotation)
    return out


def decode_plane(spec: PlaneSpec, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Levels of a plane: int8 (rows, cols)."""
    out: npt.NDArray[np.int8] = implementation().decode_plane(spec, codes)
    return out


def encode_plane(
    target: FloatArray,
    bits: int,
    feedback: FloatArray | None = None,
    commit: int = 12,
    lookahead: int = 24,
    progress: Callable[[float], bool] | None = None,
) -> npt.NDArray[np.uint8]:
    """Codes of a target in level units, by Viterbi with LDLQ feedback: uint8 (panels, lines, 64).

    target: float32 (rows, cols). feedback: float32 (cols, cols), strictly upper, or None. progress
    hears the share done between blocks and may return False to stop. Raises KernelError on values
    that are not finite, Cancelled when stopped.
    """
    out: npt.NDArray[np.uint8] = implementation().encode_plane(
        target, bits, feedback, commit, lookahead, progress
    )
    return out


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Root-mean-square normalisation: float32 (T, n)."""
    out: FloatArray = implementation().rms_norm(x, weight, eps)
    return out


def rope(x: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """Rotary positions, half-split: x float32 (T, heads, head_dim), cos and sin (T, head_dim /
    2).
    """
    out: FloatArray = implementation().rope(x, cos, sin)
    return out


def attention(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    start: int,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """Causal attention of q (B, T, H, hd) over caches k (B, KV, capacity, hd) and v (B, KV,
    capacity, vd): float32 (B, T, H, vd). sinks: scores (H,) of nothing at all.
    """
    out: FloatArray = implementation().attention(q, k, v, start, rule, sinks)
    return out


def swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """silu(gate) * up: float32 (T, n)."""
    out: FloatArray = implementation().swiglu(gate, up)
    return out


def geglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """gelu(gate) * up, the tanh form: float32 (T, n)."""
    out: FloatArray = implementation().geglu(gate, up)
    return out


def add_rms_norm(
    x: FloatArray, delta: FloatArray, weight: FloatArray, eps: float
) -> tuple[FloatArray, FloatArray]:
    """x + delta and its root-mean-square normalisation, float32 (T, n) each."""
    out: tuple[FloatArray, FloatArray] = implementation().add_rms_norm(x, delta, weight, eps)
    return out


def project(
    x: FloatArray, rotation: Rotation, stacks: Sequence[PlaneStack]
) -> tuple[FloatArray, ...]:
    """Several matrices that read one input, rotated and rounded once: float32 (T, rows) for each.
    Raises KernelError when a value is not finite.
    """
    out: tuple[FloatArray, ...] = implementation().project(x, rotation, stacks)
    return out


def clamped_swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """gate sigmoid(1.702 gate) (up + 1), both clamped to 7: float32 (T, n)."""
    out: FloatArray = implementation().clamped_swiglu(gate, up)
    return out


def softmax_top(
    logits: FloatArray, k: int
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The largest logit, the sum of exponentials of all below it, that of their products with it,
    and the k best ids: float32 (T,), float64 (T,), float64 (T,), int64 (T, k). Raises KernelError
    where logits make no distribution.
    """
    found: tuple[Any, Any, Any, Any] = implementation().softmax_top(logits, k)
    return found
