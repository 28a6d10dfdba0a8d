"""The derivative of a whole block, put together from those of its parts.

Shapes as in engine.block: streams are float32 (batch * length, width). Tests hold every formula
against differences of the engine's own forward pass.
"""

from __future__ import annotations

import numpy as np

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.crystallize.gradients import Heard, gated_back, grouped_back, rms_norm_back
from h2q.crystallize.latent_gradients import latent_back
from h2q.crystallize.moments import FloatArray
from h2q.crystallize.routed_gradients import mixture_back
from h2q.engine.block import Layer, added, attend_texts
from h2q.engine.experts import Mixture
from h2q.engine.latent import LatentAttention
from h2q.engine.projections import Apply


def layer_back(
    spec: ModelSpec, layer: Layer, x: FloatArray, grad: FloatArray, batch: int, heard: Heard
) -> FloatArray:
    """Derivative at the stream before the block, from the one behind it, for `batch` whole texts.
    `heard` is told the derivative at the output of every matrix that took part.
    """
    eps = spec.rms_norm_eps
    normed = kernels.rms_norm(x, layer.input_norm, eps)
    attended = attend_texts(spec, layer, normed, batch, Apply())
    middle = added(spec, x, attended, layer.after_attention)
    inner = kernels.rms_norm(middle, layer.post_norm, eps)

    into = _scaled(spec, grad)
    if layer.after_mlp is not None:
        into = rms_norm_back(into, layer.mlp(inner, Apply()), layer.after_mlp, eps)
    if isinstance(layer.mlp, Mixture):
        at_inner = mixture_back(layer.mlp, inner, into, heard)
    else:
        at_inner = gated_back(layer.mlp, inner, into, heard)
    grad = grad + rms_norm_back(at_inner, middle, layer.post_norm, eps)

    into = _scaled(spec, grad)
    if layer.after_attention is not None:
        into = rms_norm_back(into, attended, layer.after_attention, eps)
    if isinstance(layer.attention, LatentAttention):
        at_normed = latent_back(layer.attention, spec, normed, into, batch, heard)
    else:
        at_normed = grouped_back(layer.attention, spec, normed, into, batch, heard)
    return grad + rms_norm_back(at_normed, x, layer.input_norm, eps)


def _scaled(spec: ModelSpec, grad: FloatArray) -> FloatArray:
    return np.asarray(grad * np.float32(spec.residual_multiplier), np.float32)
