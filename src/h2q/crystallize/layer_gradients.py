"""The derivative of a whole block, put together from those of its parts.

Shapes as in engine.block: streams are float32 (batch * length, width). Tests hold every formula
against differences of the engine's own forward pass.
"""

from __future__ import annotations

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.crystallize.gradients import Heard, gated_back, grouped_back, rms_norm_back
from h2q.crystallize.latent_gradients import latent_back
from h2q.crystallize.moments import FloatArray
from h2q.crystallize.routed_gradients import mixture_back
from h2q.engine.block import Layer, attend_texts
from h2q.engine.experts import Mixture
from h2q.engine.latent import LatentAttention
from h2q.engine.projections import Apply


def layer_back(
    spec: ModelSpec, layer: Layer, x: FloatArray, grad: FloatArray, batch: int, heard: Heard
) -> FloatArray:
    """Derivative at the stream before the block, from the one behind it, for `batch` whole texts.
    `heard` is told the derivative at the output of every matrix that took part.
    """
    eps, attention, mlp = spec.rms_norm_eps, layer.attention, layer.mlp
    normed = kernels.rms_norm(x, layer.input_norm, eps)
    middle = x + attend_texts(spec, layer, normed, batch, Apply())
    inner = kernels.rms_norm(middle, layer.post_norm, eps)
    if isinstance(mlp, Mixture):
        at_inner = mixture_back(mlp, inner, grad, heard)
    else:
        at_inner = gated_back(mlp, inner, grad, heard)
    grad = grad + rms_norm_back(at_inner, middle, layer.post_norm, eps)
    if isinstance(attention, LatentAttention):
        at_normed = latent_back(attention, spec, normed, grad, batch, heard)
    else:
        at_normed = grouped_back(attention, spec, normed, grad, batch, heard)
    return grad + rms_norm_back(at_normed, x, layer.input_norm, eps)
