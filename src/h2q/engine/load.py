"""Binds weights to a model definition: originals, rotated originals, or the planes of a crystal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from h2q.codec.planes import Plane
from h2q.core.specs import ModelSpec
from h2q.crystal import Crystal
from h2q.engine.model import Layer, Model
from h2q.engine.projections import (
    DenseEmbedding,
    DenseProjection,
    Embedding,
    FloatArray,
    PlaneEmbedding,
    PlaneProjection,
    Projection,
    RotatedProjection,
)
from h2q.geometry.rotation import rotation
from h2q.sources import Source

EMBEDDING = "model.embed_tokens.weight"


class Weights(Protocol):
    """Where a model definition gets its parts from, by Hugging Face tensor name."""

    def norm(self, name: str) -> FloatArray: ...

    def embedding(self, name: str) -> Embedding: ...

    def projection(self, names: Sequence[str]) -> Projection: ...


class OriginalWeights:
    """Original tensors as float32; each is read once, a tied head shares the embedding's array."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: dict[str, FloatArray] = {}

    def tensor(self, name: str) -> FloatArray:
        if name not in self._read:
            self._read[name] = np.ascontiguousarray(self._source.tensor(name), np.float32)
        return self._read[name]

    def norm(self, name: str) -> FloatArray:
        return self.tensor(name)

    def embedding(self, name: str) -> Embedding:
        return DenseEmbedding(self.tensor(name))

    def projection(self, names: Sequence[str]) -> Projection:
        return DenseProjection(names, [self.tensor(name) for name in names])


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
    """Planes by tensor name; `planes` and `norms` are asked once per tensor."""

    def __init__(
        self,
        planes: Callable[[str], tuple[Plane, ...]],
        norms: Callable[[str], FloatArray],
        seed: int,
    ) -> None:
        self._planes, self._norms, self._seed = planes, norms, seed

    def norm(self, name: str) -> FloatArray:
        return self._norms(name)

    def embedding(self, name: str) -> Embedding:
        stack = self._planes(name)
        return PlaneEmbedding(stack, rotation(self._seed, stack[0].spec.cols))

    def projection(self, names: Sequence[str]) -> Projection:
        stacks = [self._planes(name) for name in names]
        return PlaneProjection(names, stacks, rotation(self._seed, stacks[0][0].spec.cols))


def build(spec: ModelSpec, weights: Weights) -> Model:
    """The model definition of `spec.family` with these weights."""
    embedding = weights.embedding(EMBEDDING)
    layers = []
    for index in range(spec.num_hidden_layers):
        name = f"model.layers.{index}"
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        layers.append(
            Layer(
                name=name,
                input_norm=weights.norm(f"{name}.input_layernorm.weight"),
                qkv=weights.projection([f"{attention}.{part}_proj.weight" for part in "qkv"]),
                o=weights.projection([f"{attention}.o_proj.weight"]),
                post_norm=weights.norm(f"{name}.post_attention_layernorm.weight"),
                gate_up=weights.projection([f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"]),
                down=weights.projection([f"{mlp}.down_proj.weight"]),
            )
        )
    norm = weights.norm("model.norm.weight")
    head = weights.projection([EMBEDDING if spec.tie_word_embeddings else "lm_head.weight"])
    return Model(spec, embedding, layers, norm, head)


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
    """Give named tensors other planes; call between two tokens."""
    if EMBEDDING in planes and isinstance(model.embedding, PlaneEmbedding):
        model.embedding.stack = planes[EMBEDDING]
    projections = [model.head]
    for layer in model.layers:
        projections += [layer.qkv, layer.o, layer.gate_up, layer.down]
    for projection in projections:
        if isinstance(projection, PlaneProjection):
            projection.stacks = [
                planes.get(name, stack)
                for name, stack in zip(projection.names, projection.stacks, strict=True)
            ]
