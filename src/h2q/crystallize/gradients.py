"""Derivatives of the decoder's block, by hand: how much the log-likelihood moves when the output of
a matrix does.

Shapes as in engine.block: streams are float32 (batch * length, width). Tests hold every formula
against differences of the engine's own forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.specs import ModelSpec
from h2q.crystallize.moments import FloatArray
from h2q.engine.block import Layer, Positions, rule
from h2q.engine.projections import DenseProjection, Projection

Heard = Callable[[str, FloatArray], None]  # tensor name, derivative at its output (T, rows)


def rms_norm_back(grad: FloatArray, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Derivative at the input of rms_norm(x, weight, eps): float32 (T, width)."""
    inverse = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps))
    scaled = grad * weight
    inner = np.mean(scaled * x, axis=-1, keepdims=True)
    return np.asarray(inverse * scaled - x * inverse**3 * inner, np.float32)


def attention_back(
    grad: FloatArray, q: FloatArray, k: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives at q (B, T, heads, hd), k and v (B, T, kv_heads, hd) of causal attention whose
    output's is `grad`, shaped like q.
    """
    batch, length, heads, width = q.shape
    shared = heads // k.shape[2]
    scale = np.float32(1 / math.sqrt(width))
    mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    gq, gk, gv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for b in range(batch):
        for head in range(heads):
            kv = head // shared
            scores = q[b, :, head] @ k[b, :, kv].T * scale + mask
            share = np.exp(scores - scores.max(axis=-1, keepdims=True))
            share /= share.sum(axis=-1, keepdims=True)
            gv[b, :, kv] += share.T @ grad[b, :, head]
            down = grad[b, :, head] @ v[b, :, kv].T
            down = share * (down - np.sum(down * share, axis=-1, keepdims=True)) * scale
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


def layer_back(
    spec: ModelSpec, layer: Layer, x: FloatArray, grad: FloatArray, batch: int, heard: Heard
) -> FloatArray:
    """Derivative at the stream before the block, from the one behind it, for `batch` whole texts.
    `heard` is told the derivative at the output of every matrix.
    """
    eps, split = spec.rms_norm_eps, (batch, len(x) // batch, -1, spec.head_dim)
    places = Positions.of(spec, 0, batch, len(x) // batch)
    (wq, wk, wv), (wo,) = dense(layer.qkv), dense(layer.o)
    (wg, wu), (wd,) = dense(layer.gate_up), dense(layer.down)
    normed = kernels.rms_norm(x, layer.input_norm, eps)
    q, k = (_turned(normed @ w.T, spec, places).reshape(split) for w in (wq, wk))
    v = (normed @ wv.T).reshape(split)
    mixed = _attend(q, k, v, rule(spec))
    middle = x + mixed @ wo.T
    inner = kernels.rms_norm(middle, layer.post_norm, eps)
    gate, up = inner @ wg.T, inner @ wu.T

    heard(layer.down.names[0], grad)
    ggate, gup = swiglu_back(grad @ wd, gate, up)
    heard(layer.gate_up.names[0], ggate)
    heard(layer.gate_up.names[1], gup)
    grad = grad + rms_norm_back(ggate @ wg + gup @ wu, middle, layer.post_norm, eps)
    heard(layer.o.names[0], grad)
    gq, gk, gv = attention_back((grad @ wo).reshape(split), q, k, v)
    gq, gk = (_unturned(g.reshape(len(x), -1), spec, places) for g in (gq, gk))
    gv = gv.reshape(len(x), -1)
    for name, g in zip(layer.qkv.names, (gq, gk, gv), strict=True):
        heard(name, g)
    into = gq @ wq + gk @ wk + gv @ wv
    return grad + rms_norm_back(into, x, layer.input_norm, eps)


def _attend(q: FloatArray, k: FloatArray, v: FloatArray, rule: AttentionRule) -> FloatArray:
    batch, length = q.shape[:2]
    keys, values = (np.ascontiguousarray(a.transpose(0, 2, 1, 3)) for a in (k, v))
    return kernels.attention(q, keys, values, 0, rule).reshape(batch * length, -1)


def _turned(x: FloatArray, spec: ModelSpec, places: Positions) -> FloatArray:
    return kernels.rope(x.reshape(len(x), -1, spec.head_dim), places.cos, places.sin)


def _unturned(grad: FloatArray, spec: ModelSpec, places: Positions) -> FloatArray:
    """Rotary positions are rotations: their derivative turns back."""
    heads = np.ascontiguousarray(grad.reshape(len(grad), -1, spec.head_dim))
    return kernels.rope(heads, places.cos, -places.sin).reshape(len(grad), -1)


def dense(projection: Projection) -> list[FloatArray]:
    """The unencoded weights of a projection."""
    if not isinstance(projection, DenseProjection):
        raise TypeError("only unencoded weights have derivatives here")
    return projection.weights
