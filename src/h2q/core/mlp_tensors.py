"""Tensors of a layer's MLP: one gated MLP."""

from __future__ import annotations

from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec, bias, linear


def mlp_tensors(spec: ModelSpec, index: int) -> list[TensorSpec]:
    """The MLP of layer `index`, in the order it is used."""
    name, width, inner = f"model.layers.{index}.mlp", spec.hidden_size, spec.intermediate_size
    matrices = [
        linear(f"{name}.gate_proj", inner, width, f"{name}.in"),
        linear(f"{name}.up_proj", inner, width, f"{name}.in"),
        linear(f"{name}.down_proj", width, inner, f"{name}.out", not spec.post_norms),
    ]
    if not spec.mlp_bias:
        return matrices
    return [t for m in matrices for t in (m, bias(m.name.removesuffix(".weight"), m.shape[0]))]
