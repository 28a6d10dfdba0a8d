"""Binds weights to a model definition: originals, rotated originals, or the planes of a crystal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

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
from h2q.core.attention_tensors import sinks_name
from h2q.core.latent_spec import LatentSpec
from h2q.core.mlp_tensors import PLAIN, ExpertNames, correction_name, expert_names, is_expert
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.crystal import Crystal
from h2q.engine.block import Layer
from h2q.engine.expert_store import ExpertStore
from h2q.engine.experts import Dispatch, Experts, Mixture, Router
from h2q.engine.heads import Attention
from h2q.engine.latent import Expansion, LatentAttention
from h2q.engine.mlp import GatedMLP
from h2q.engine.model import Model
from h2q.engine.projections import (
    DenseEmbedding,
    DenseMatrix,
    DenseProjection,
    Embedding,
    FloatArray,
    HeldMatrix,
    Joined,
    Matrices,
    PlaneEmbedding,
    PlaneMatrix,
    PlaneProjection,
    Projection,
    RotatedProjection,
)
from h2q.geometry.rotation import rotation

if TYPE_CHECKING:
    from h2q.sources import Source


class Weights(Protocol):
    """Where a model definition gets its parts from."""

    def raw(self, name: str) -> FloatArray:
        """What is kept as it is: norms, biases, routers."""
        ...

    def embedding(self, tensor: TensorSpec) -> Embedding: ...

    def projection(self, names: Sequence[str]) -> Projection:
        """Matrices that read one input, by Hugging Face tensor name."""
        ...

    def matrix(self, name: str) -> HeldMatrix:
        """A matrix that is used as it is."""
        ...

    def experts(self, mlps: Sequence[GatedMLP]) -> Experts:
        """What runs experts that were bound by `projection`."""
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

    def matrix(self, name: str) -> HeldMatrix:
        return DenseMatrix(name, self.tensor(name))

    def experts(self, mlps: Sequence[GatedMLP]) -> Experts:
        return Dispatch(mlps)

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
    """Planes by name of the coded part, each asked for once; experts from a store, if given."""

    def __init__(
        self,
        planes: Callable[[str], tuple[Plane, ...]],
        raw: Callable[[str], FloatArray],
        seed: int,
        store: ExpertStore | None = None,
    ) -> None:
        self._planes, self._raw, self._seed, self._store = planes, raw, seed, store

    def raw(self, name: str) -> FloatArray:
        return self._raw(name)

    def embedding(self, tensor: TensorSpec) -> Embedding:
        tiers = {part.name: self._planes(part.name) for part in parts(tensor)}
        return PlaneEmbedding(tiers, rotation(self._seed, tensor.shape[1]))

    def projection(self, names: Sequence[str]) -> Projection:
        if self._store is not None and is_expert(names[0]):
            return self._store.projection(names)
        stacks = {name: self._planes(name) for name in names}
        width = stacks[names[0]][0].spec.cols
        return PlaneProjection(stacks, rotation(self._seed, width))

    def matrix(self, name: str) -> HeldMatrix:
        planes = self._planes(name)
        return PlaneMatrix(name, planes, rotation(self._seed, planes[0].spec.cols))

    def experts(self, mlps: Sequence[GatedMLP]) -> Experts:
        return Dispatch(mlps) if self._store is None else self._store.experts(mlps)

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
        attention=_heads(spec, weights, index)
        if spec.latent is None
        else _latent(spec, spec.latent, weights, index),
        post_norm=norms[-1],
        mlp=_mlp(spec, weights, index),
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
        sinks=weights.raw(sinks_name(name)) if spec.attention_sinks else None,
    )


def _latent(spec: ModelSpec, latent: LatentSpec, weights: Weights, index: int) -> LatentAttention:
    name, direct = f"model.layers.{index}.self_attn", latent.q_lora_rank is None
    first = f"{name}.{'q' if direct else 'q_a'}_proj.weight"
    return LatentAttention(
        name=name,
        latent=latent,
        down=weights.projection([first, f"{name}.kv_a_proj_with_mqa.weight"]),
        q_norm=None if direct else weights.raw(f"{name}.q_a_layernorm.weight"),
        q_up=None if direct else weights.projection([f"{name}.q_b_proj.weight"]),
        kv_norm=weights.raw(f"{name}.kv_a_layernorm.weight"),
        expansion=Expansion(latent, weights.matrix(f"{name}.kv_b_proj.weight")),
        o=weights.projection([f"{name}.o_proj.weight"]),
        rule=attention_rule(spec, index),
    )


def _mlp(spec: ModelSpec, weights: Weights, index: int) -> GatedMLP | Mixture:
    experts = spec.experts
    if experts is None or not experts.mixed(index):
        return _gated(spec, weights, f"model.layers.{index}.mlp")
    names = expert_names(spec)
    room = f"model.layers.{index}.{names.room}"
    corrected = experts.topk_method == "noaux_tc"
    router = Router(
        experts,
        gate=weights.raw(f"{room}.{names.router}.weight"),
        correction=weights.raw(correction_name(room)) if corrected else None,
        bias=weights.raw(f"{room}.{names.router}.bias") if spec.mlp_bias else None,
    )
    count = range(experts.num_experts)
    mlps = [_gated(spec, weights, f"{room}.experts.{expert}", names) for expert in count]
    shared = _gated(spec, weights, f"{room}.{names.shared}") if experts.n_shared_experts else None
    weight = f"{room}.{names.shared_gate}.weight"
    shared_gate = weights.raw(weight) if shared and names.shared_gate else None
    return Mixture(room, router, weights.experts(mlps), shared, shared_gate)


def _gated(spec: ModelSpec, weights: Weights, name: str, names: ExpertNames = PLAIN) -> GatedMLP:
    gate, up, down = (f"{name}.{part}" for part in (names.gate, names.up, names.down))
    return GatedMLP(
        name=name,
        gate_up=weights.projection([f"{gate}.weight", f"{up}.weight"]),
        down=weights.projection([f"{down}.weight"]),
        act=spec.hidden_act,
        biases=_biases(weights, [gate, up, down], spec.mlp_bias),
    )


def _biases(weights: Weights, names: Sequence[str], wanted: bool) -> tuple[FloatArray, ...]:
    return tuple(weights.raw(f"{name}.bias") for name in names) if wanted else ()


def load_original(source: Source) -> Model:
    """The original network in float32."""
    return build(source.spec, OriginalWeights(source))


def load_rotated(source: Source, seed: int) -> Model:
    """The original network behind rotations, in float32 (see RotatedWeights)."""
    return build(source.spec, RotatedWeights(source, seed))


def load_crystal(
    crystal: Crystal, groups: int | None = None, experts: ExpertStore | None = None
) -> Model:
    """A crystal's network with its first `groups` refinement groups (0: base planes only; None:
    all). `experts`: a new store, which keeps them on disk as far as its budget asks for. Raises
    CrystalError, ResourceError when the store cannot hold one expert.
    """
    model = build(crystal.spec, crystal_weights(crystal, groups, experts))
    if experts is not None:
        experts.settle()
    return model


def crystal_weights(
    crystal: Crystal, groups: int | None = None, experts: ExpertStore | None = None
) -> PlaneWeights:
    """What load_crystal builds a model from."""
    if experts is not None:
        experts.open(crystal, groups)

    def planes(name: str) -> tuple[Plane, ...]:
        return tuple(crystal.planes(name, groups))

    return PlaneWeights(planes, crystal.raw, crystal.rotation_seed, experts)


def exchange(model: Model, planes: dict[str, tuple[Plane, ...]]) -> None:
    """Give coded parts other planes; call between two tokens."""
    found: list[Matrices] = [model.head.tiers] if isinstance(model.head, Joined) else []
    for layer in model.layers:
        found += layer.matrices()
    for one in (model.embedding, *found):
        if isinstance(one, (PlaneEmbedding, PlaneMatrix, PlaneProjection)):
            one.exchange(planes)
