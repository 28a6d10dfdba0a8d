"""Binds weights to a model definition: originals, rotated originals, or the planes of a crystal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from h2q.codec.planes import Plane
from h2q.core.architecture import (
    EMBEDDING,
    FINAL_NORM,
    head_name,
    norms_between,
    parts,
    tensors,
)
from h2q.core.attention import attention_rule
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.crystal import Crystal
from h2q.engine.block import Layer
from h2q.engine.heads import Attention
from h2q.engine.mlp import GatedMLP
from h2q.engine.model import Model
from h2q.engine.projections import (
    DenseEmbedding,
    DenseProjection,
    Embedding,
    FloatArray,
    Joined,
    Matrices,
    PlaneEmbedding,
    PlaneProjection,
    Projection,
    RotatedProjection,
)
from h2q.geometry.rotation import rotation
from h2q.sources import Source


class Weights(Protocol):
    """Where a model definition gets its parts from."""

    def raw(self, name: str) -> FloatArray:
        """What is kept as it is: norms, biases."""
        ...

    def embedding(self, tensor: TensorSpec) -> Embedding: ...

    def projection(self, names: Sequence[str]) -> Projection:
        """Matrices that read one input, by Hugging Face tensor name."""
        ...

    def head(self, tensor: TensorSpec) -> Projection:
        """The matrix over the vocabulary, as one output."""
        ...


class OriginalWeights:
    """Original tensors as float32; each is read once, a tied head shares the embedding's array."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: dict[str, FloatArray] = {}

    def tensor(self, name: str) -> FloatArray:
        if name not in self._read:
            self._read[name] = np.ascontiguousarray(self._source.tensor(name), np.float32)
        return self._read[name]

    def raw(self, name: str) -> FloatArray:
        return self.tensor(name)

    def embedding(self, tensor: TensorSpec) -> Embedding:
        return DenseEmbedding(self.tensor(tensor.name))

    def projection(self, names: Sequence[str]) -> Projection:
        return DenseProjection(names, [self.tensor(name) for name in names])

    def head(self, tensor: TensorSpec) -> Projection:
        return self.projection([tensor.name])


class RotatedWeights(OriginalWeights):
    """Originals behind the rotation of a crystal, not rounded: proves that rotating changes
    nothing.
    """

    def __init__(self, source: Source, seed: int) -> None:
        super().__init__(source)
        self._seed = seed

    def projection(self, names: Sequence[str]) -> Projection:
        weights = [self.tensor(name) for name in names]
        return RotatedProjection(names, weights, rotation(self._seed, weights[0].shape[1]))


class PlaneWeights:
    """Planes by name of the coded part; `planes` and `raw` are asked once per name."""

    def __init__(
        self,
        planes: Callable[[str], tuple[Plane, ...]],
        raw: Callable[[str], FloatArray],
        seed: int,
    ) -> None:
        self._planes, self._raw, self._seed = planes, raw, seed

    def raw(self, name: str) -> FloatArray:
        return self._raw(name)

    def embedding(self, tensor: TensorSpec) -> Embedding:
        tiers = {part.name: self._planes(part.name) for part in parts(tensor)}
        return PlaneEmbedding(tiers, rotation(self._seed, tensor.shape[1]))

    def projection(self, names: Sequence[str]) -> Projection:
        stacks = {name: self._planes(name) for name in names}
        width = stacks[names[0]][0].spec.cols
        return PlaneProjection(stacks, rotation(self._seed, width))

    def head(self, tensor: TensorSpec) -> Projection:
        return Joined(self.projection([part.name for part in parts(tensor)]))


def build(spec: ModelSpec, weights: Weights) -> Model:
    """The model definition of `spec.family` with these weights."""
    table = {tensor.name: tensor for tensor in tensors(spec)}
    embedding = weights.embedding(table[EMBEDDING])
    layers = [build_layer(spec, weights, index) for index in range(spec.num_hidden_layers)]
    head = weights.head(table[head_name(spec)])
    return Model(spec, embedding, layers, weights.raw(FINAL_NORM), head)


def build_layer(spec: ModelSpec, weights: Weights, index: int) -> Layer:
    """One block with these weights."""
    name = f"model.layers.{index}"
    norms = [weights.raw(f"{name}.{norm}.weight") for norm in norms_between(spec)]
    post = spec.post_norms
    return Layer(
        name=name,
        input_norm=weights.raw(f"{name}.input_layernorm.weight"),
        attention=_heads(spec, weights, index),
        post_norm=norms[-1],
        mlp=_gated(spec, weights, f"{name}.mlp"),
        after_attention=norms[0] if post else None,
        after_mlp=weights.raw(f"{name}.post_feedforward_layernorm.weight") if post else None,
    )


def _heads(spec: ModelSpec, weights: Weights, index: int) -> Attention:
    name = f"model.layers.{index}.self_attn"
    return Attention(
        name=name,
        index=index,
        qkv=weights.projection([f"{name}.{part}_proj.weight" for part in "qkv"]),
        o=weights.projection([f"{name}.o_proj.weight"]),
        rule=attention_rule(spec, index),
        q_norm=weights.raw(f"{name}.q_norm.weight") if spec.qk_norm else None,
        k_norm=weights.raw(f"{name}.k_norm.weight") if spec.qk_norm else None,
        biases=_biases(weights, [f"{name}.{part}_proj" for part in "qkv"], spec.qkv_bias),
        o_bias=_biases(weights, [f"{name}.o_proj"], spec.o_bias),
    )


def _gated(spec: ModelSpec, weights: Weights, name: str) -> GatedMLP:
    return GatedMLP(
        name=name,
        gate_up=weights.projection([f"{name}.gate_proj.weight", f"{name}.up_proj.weight"]),
        down=weights.projection([f"{name}.down_proj.weight"]),
        act=spec.hidden_act,
        biases=_biases(
            weights, [f"{name}.{p}_proj" for p in ("gate", "up", "down")], spec.mlp_bias
        ),
    )


def _biases(weights: Weights, names: Sequence[str], wanted: bool) -> tuple[FloatArray, ...]:
    return tuple(weights.raw(f"{name}.bias") for name in names) if wanted else ()


def load_original(source: Source) -> Model:
    """The original network in float32."""
    return build(source.spec, OriginalWeights(source))


def load_rotated(source: Source, seed: int) -> Model:
    """The original network behind rotations, in float32 (see RotatedWeights)."""
    return build(source.spec, RotatedWeights(source, seed))


def load_crystal(crystal: Crystal, groups: int | None = None) -> Model:
    """A crystal's network with its first `groups` refinement groups (0: base planes only; None:
    all).
    """
    weights = PlaneWeights(
        lambda name: tuple(crystal.planes(name, groups)), crystal.raw, crystal.rotation_seed
    )
    return build(crystal.spec, weights)


def exchange(model: Model, planes: dict[str, tuple[Plane, ...]]) -> None:
    """Give coded parts other planes; call between two tokens."""
    found: list[Matrices] = [model.head.tiers] if isinstance(model.head, Joined) else []
    for layer in model.layers:
        found += layer.matrices()
    for one in (model.embedding, *found):
        if isinstance(one, (PlaneEmbedding, PlaneProjection)):
            one.exchange(planes)
