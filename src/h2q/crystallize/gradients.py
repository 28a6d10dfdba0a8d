"""Derivatives of a block's parts, by hand: how much the log-likelihood moves when the output of a
matrix does. Mixtures and latents are in `routed_gradients` and `latent_gradients`.

Shapes as in engine.block: streams are float32 (batch * length, width). Tests hold every formula
against differences of the engine's own forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from h2q.core.attention import AttentionRule
from h2q.core.specs import CLAMPED, CLAMPED_LIMIT, CLAMPED_SLOPE, ModelSpec
from h2q.crystallize.moments import FloatArray
from h2q.engine.heads import Attention, placed
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
    grad: FloatArray,
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives at q (B, T, heads, hd), k (B, T, kv_heads, hd) and v (B, T, kv_heads, vd) of
    causal attention, with sinks (heads,) or without, whose output's is `grad`, (B, T, heads, vd).
    """
    batch, length, heads, _ = q.shape
    shared = heads // k.shape[2]
    scale, cap = np.float32(rule.scale), np.float32(rule.softcap)
    seen = np.tri(length, dtype=bool)
    if rule.window:
        seen &= ~np.tri(length, k=-rule.window, dtype=bool)
    gq, gk, gv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for b in range(batch):
        for head in range(heads):
            kv = head // shared
            scores = q[b, :, head] @ k[b, :, kv].T * scale
            bent = np.tanh(scores / cap) if cap else np.float32(0)
            scores = np.where(seen, cap * bent if cap else scores, -np.inf)
            sink = -np.inf if sinks is None else sinks[head]
            best = np.maximum(scores.max(axis=-1, keepdims=True), sink)
            share = np.exp(scores - best)
            share /= share.sum(axis=-1, keepdims=True) + np.exp(sink - best)
            gv[b, :, kv] += share.T @ grad[b, :, head]
            down = grad[b, :, head] @ v[b, :, kv].T
            down = share * (down - np.sum(down * share, axis=-1, keepdims=True)) * scale
            down *= 1 - bent * bent
            gq[b, :, head] = down @ k[b, :, kv]
            gk[b, :, kv] += down.T @ q[b, :, head]
    return gq, gk, gv


def _silu(gate: FloatArray) -> tuple[FloatArray, FloatArray]:
    sigmoid = 1 / (1 + np.exp(-gate))
    return np.asarray(gate * sigmoid), np.asarray(sigmoid * (1 + gate * (1 - sigmoid)))


def _gelu(gate: FloatArray) -> tuple[FloatArray, FloatArray]:
    slope, cube = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
    bent = np.tanh(slope * (gate + cube * gate**3))
    rise = slope * (1 + 3 * cube * gate * gate) * (1 - bent * bent)
    return np.asarray(gate * (1 + bent) / 2), np.asarray((1 + bent + gate * rise) / 2)


ACTIVATIONS = {"silu": _silu, "gelu_pytorch_tanh": _gelu}  # value and derivative


def bend_back(act: str, gate: FloatArray, up: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of engine.mlp's GATES[act](gate, up) at both, float32 (T, inner)."""
    if act != CLAMPED:
        value, slope = ACTIVATIONS[act](gate)
        return up * slope, value
    bend, limit = np.float32(CLAMPED_SLOPE), np.float32(CLAMPED_LIMIT)
    value, slope = _silu(bend * np.minimum(gate, limit))
    within = np.clip(up, -limit, limit) + 1
    return within * slope * (gate < limit), value / bend * (np.abs(up) < limit)


def leaving_slope(spec: ModelSpec, logits: FloatArray) -> FloatArray:
    """Derivative of `leaving` at what the head answers, from the logits it made of it."""
    slope = np.full_like(logits, 1 / spec.logits_scaling)
    if spec.final_logit_softcapping:
        slope *= 1 - (logits / np.float32(spec.final_logit_softcapping)) ** 2
    return slope


def gated_back(mlp: GatedMLP, x: FloatArray, grad: FloatArray, heard: Heard) -> FloatArray:
    """Derivative at the input of a gated MLP, float32 (T, width)."""
    (wg, wu), (wd,) = dense(mlp.gate_up), dense(mlp.down)
    gate, up = x @ wg.T, x @ wu.T
    if mlp.biases:
        gate, up = gate + mlp.biases[0], up + mlp.biases[1]
    at_gate, at_up = bend_back(mlp.act, gate, up)
    heard(mlp.down.names[0], grad)
    into = grad @ wd
    ggate = np.asarray(into * at_gate, np.float32)
    gup = np.asarray(into * at_up, np.float32)
    heard(mlp.gate_up.names[0], ggate)
    heard(mlp.gate_up.names[1], gup)
    return np.asarray(ggate @ wg + gup @ wu, np.float32)


def grouped_back(
    attention: Attention, spec: ModelSpec, x: FloatArray, grad: FloatArray, batch: int, heard: Heard
) -> FloatArray:
    """Derivative at the input of grouped-query attention, float32 (T, width)."""
    split = (batch, len(x) // batch, -1, spec.head_dim)
    at = Positions.of(spec, 0, batch, len(x) // batch).of_layer(spec, attention.index)
    weights, (wo,) = dense(attention.qkv), dense(attention.o)
    rows = [x @ w.T for w in weights]
    if attention.biases:
        rows = [row + bias for row, bias in zip(rows, attention.biases, strict=True)]
    gains = attention.q_norm, attention.k_norm
    q, k = (placed(spec, r, g, at).reshape(split) for r, g in zip(rows, gains, strict=False))
    heard(attention.o.names[0], grad)
    mixed = (grad @ wo).reshape(split)
    look = attention.rule, attention.sinks
    gq, gk, gv = attention_back(mixed, q, k, rows[2].reshape(split), *look)
    grads = [
        _before(spec, g, row, gain, at) for g, row, gain in zip((gq, gk), rows, gains, strict=False)
    ]
    grads.append(gv.reshape(len(x), -1))
    for name, g in zip(attention.qkv.names, grads, strict=True):
        heard(name, g)
    return np.asarray(sum(g @ w for g, w in zip(grads, weights, strict=True)), np.float32)


def _before(
    spec: ModelSpec,
    grad: FloatArray,
    raw: FloatArray,
    gain: FloatArray | None,
    at: Positions | None,
) -> FloatArray:
    """At queries or keys as their matrix answered them, float32 (T, heads * head_dim). Rotary
    positions are rotations: their derivative turns back.
    """
    width = spec.head_dim
    heads = np.ascontiguousarray(grad.reshape(len(raw), -1, width))
    if at is not None:
        heads = at.back().turn(heads)
    if gain is not None:
        flat = heads.reshape(-1, width)
        heads = rms_norm_back(flat, raw.reshape(-1, width), gain, spec.rms_norm_eps)
    return heads.reshape(len(raw), -1)


def dense(matrices: Matrices) -> list[FloatArray]:
    """The unencoded weights of a projection, or of a matrix that is held."""
    if isinstance(matrices, DenseMatrix):
        return [matrices.weights]
    if not isinstance(matrices, DenseProjection):
        raise TypeError("only unencoded weights have derivatives here")
    return matrices.weights
