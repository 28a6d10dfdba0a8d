"""Derivatives of a block's parts, by hand: how much the log-likelihood moves when the output of a
matrix does. Mixtures and latents are in `routed_gradients` and `latent_gradients`.

Shapes as in engine.block: streams are float32 (batch * length, width). Tests hold every formula
against differences of the engine's own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.crystallize.moments import FloatArray
from h2q.engine.block import Attention, rule
from h2q.engine.mlp import GatedMLP
from h2q.engine.positions import Positions
from h2q.engine.projections import DenseMatrix, DenseProjection, Matrices

Heard = Callable[[str, FloatArray], None]  # tensor name, derivative at its output (T, rows)


def rms_norm_back(grad: FloatArray, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Derivative at the input of rms_norm(x, weight, eps): float32 (T, width)."""
    inverse = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps))
    scaled = grad * weight
    inner = np.mean(scaled * x, axis=-1, keepdims=True)
    return np.asarray(inverse * scaled - x * inverse**3 * inner, np.float32)


def attention_back(
    grad: FloatArray, q: FloatArray, k: FloatArray, v: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives at q (B, T, heads, hd), k (B, T, kv_heads, hd) and v (B, T, kv_heads, vd) of
    causal attention whose output's is `grad`, (B, T, heads, vd). scale: of the scores.
    """
    batch, length, heads, _ = q.shape
    shared = heads // k.shape[2]
    mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    gq, gk, gv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for b in range(batch):
        for head in range(heads):
            kv = head // shared
            scores = q[b, :, head] @ k[b, :, kv].T * np.float32(scale) + mask
            share = np.exp(scores - scores.max(axis=-1, keepdims=True))
            share /= share.sum(axis=-1, keepdims=True)
            gv[b, :, kv] += share.T @ grad[b, :, head]
            down = grad[b, :, head] @ v[b, :, kv].T
            down = share * (down - np.sum(down * share, axis=-1, keepdims=True)) * np.float32(scale)
            gq[b, :, head] = down @ k[b, :, kv]
            gk[b, :, kv] += down.T @ q[b, :, head]
    return gq, gk, gv


def swiglu_back(
    grad: FloatArray, gate: FloatArray, up: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Derivatives at gate and up of silu(gate) * up, float32 (T, n) both."""
    sigmoid = 1 / (1 + np.exp(-gate))
    at_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
    return np.asarray(at_gate, np.float32), np.asarray(grad * gate * sigmoid, np.float32)


def turned(x: FloatArray, width: int, at: Positions) -> FloatArray:
    """Heads of `width` dimensions, float32 (T, heads * width), turned by their positions: (T,
    heads, width).
    """
    return kernels.rope(np.ascontiguousarray(x.reshape(len(x), -1, width)), at.cos, at.sin)


def unturned(grad: FloatArray, at: Positions) -> FloatArray:
    """Rotary positions are rotations: their derivative turns back. Float32 (T, heads, width) to (T,
    heads * width).
    """
    heads = np.ascontiguousarray(grad)
    return kernels.rope(heads, at.cos, -at.sin).reshape(len(grad), -1)


def gated_back(mlp: GatedMLP, x: FloatArray, grad: FloatArray, heard: Heard) -> FloatArray:
    """Derivative at the input of a gated MLP, float32 (T, width)."""
    (wg, wu), (wd,) = dense(mlp.gate_up), dense(mlp.down)
    heard(mlp.down.names[0], grad)
    ggate, gup = swiglu_back(grad @ wd, x @ wg.T, x @ wu.T)
    heard(mlp.gate_up.names[0], ggate)
    heard(mlp.gate_up.names[1], gup)
    return np.asarray(ggate @ wg + gup @ wu, np.float32)


def grouped_back(
    attention: Attention, spec: ModelSpec, x: FloatArray, grad: FloatArray, batch: int, heard: Heard
) -> FloatArray:
    """Derivative at the input of grouped-query attention, float32 (T, width)."""
    split = (batch, len(x) // batch, -1, spec.head_dim)
    at = Positions.of(spec, 0, batch, len(x) // batch)
    (wq, wk, wv), (wo,) = dense(attention.qkv), dense(attention.o)
    q, k = (turned(x @ w.T, spec.head_dim, at).reshape(split) for w in (wq, wk))
    v = (x @ wv.T).reshape(split)
    heard(attention.o.names[0], grad)
    gq, gk, gv = attention_back((grad @ wo).reshape(split), q, k, v, rule(spec).scale)
    gq, gk = (unturned(g.reshape(len(x), -1, spec.head_dim), at) for g in (gq, gk))
    gv = gv.reshape(len(x), -1)
    for name, g in zip(attention.qkv.names, (gq, gk, gv), strict=True):
        heard(name, g)
    return np.asarray(gq @ wq + gk @ wk + gv @ wv, np.float32)


def dense(matrices: Matrices) -> list[FloatArray]:
    """The unencoded weights of a projection, or of a matrix that is held."""
    if isinstance(matrices, DenseMatrix):
        return [matrices.weights]
    if not isinstance(matrices, DenseProjection):
        raise TypeError("only unencoded weights have derivatives here")
    return matrices.weights
