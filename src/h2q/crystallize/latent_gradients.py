"""Derivatives of latent attention, by hand, in the form that expands the latent into keys, values
of every head: for whole texts it is the shorter sum, and kv_b_proj has an output there.
"""

from __future__ import annotations

import numpy as np

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.crystallize.gradients import Heard, attention_back, dense, rms_norm_back
from h2q.crystallize.moments import FloatArray
from h2q.engine.latent import NORM_EPS, LatentAttention
from h2q.engine.positions import Positions


def latent_back(
    attention: LatentAttention,
    spec: ModelSpec,
    x: FloatArray,
    grad: FloatArray,
    batch: int,
    heard: Heard,
) -> FloatArray:
    """Derivative at the input of latent attention, float32 (T, width)."""
    latent, heads, length = attention.latent, spec.num_attention_heads, len(x) // batch
    rank, nope = latent.kv_lora_rank, latent.qk_nope_head_dim
    at = Positions.of(spec, 0, batch, length)
    (wq, wkv), (wo,) = dense(attention.down), dense(attention.o)
    low, row = x @ wq.T, x @ wkv.T
    q = low
    if attention.q_up is not None and attention.q_norm is not None:
        (wqb,) = dense(attention.q_up)
        q = kernels.rms_norm(low, attention.q_norm, NORM_EPS) @ wqb.T
    q = q.reshape(len(x), heads, -1)
    inner = np.ascontiguousarray(row[:, :rank])
    c = kernels.rms_norm(inner, attention.kv_norm, NORM_EPS)
    whole = attention.expansion.matrix(c)
    expanded = (c @ whole.T).reshape(len(x), heads, -1)
    at_q = at.turn(np.ascontiguousarray(q[..., nope:]))
    at_k = np.broadcast_to(at.turn(np.ascontiguousarray(row[:, None, rank:])), at_q.shape)
    queries = np.concatenate([q[..., :nope], at_q], axis=-1).reshape(batch, length, heads, -1)
    keys = np.concatenate([expanded[..., :nope], at_k], axis=-1).reshape(queries.shape)
    values = expanded[..., nope:].reshape(batch, length, heads, -1)

    heard(attention.o.names[0], grad)
    mixed = (grad @ wo).reshape(values.shape)
    gq, gk, gv = attention_back(mixed, queries, keys, values, attention.rule)
    gq, gk, gv = (g.reshape(len(x), heads, -1) for g in (gq, gk, gv))
    grown = np.concatenate([gk[..., :nope], gv], axis=-1).reshape(len(x), -1)
    heard(attention.expansion.matrix.names[0], grown)
    at_inner = rms_norm_back(grown @ whole, inner, attention.kv_norm, NORM_EPS)
    at_key = at.back().turn(gk[..., nope:].sum(axis=1, keepdims=True))[:, 0]
    at_row = np.concatenate([at_inner, at_key], axis=-1)
    heard(attention.down.names[1], at_row)
    back = at.back().turn(np.ascontiguousarray(gq[..., nope:]))
    at_low = np.concatenate([gq[..., :nope], back], axis=-1).reshape(len(x), -1)
    if attention.q_up is not None and attention.q_norm is not None:
        heard(attention.q_up.names[0], at_low)
        at_low = rms_norm_back(at_low @ wqb, low, attention.q_norm, NORM_EPS)
    heard(attention.down.names[0], at_low)
    return np.asarray(at_low @ wq + at_row @ wkv, np.float32)
