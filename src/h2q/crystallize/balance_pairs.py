"""Channels that experts and latent attention add to those that are balanced (see `balance`).

Of a mixture: behind its norm read all experts, the shared one and the router, whose columns follow;
every expert has channels of its own between up and down, unless its ups are clamped. Of latent
attention: behind the stream's norm read q (or q_a) and kv_a, behind the norms of the two short rows
q_b and kv_b, and the value rows of kv_b are read by o, head by head. What rows of q_a and kv_a say
goes through a norm, which lets no channel be scaled alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from h2q.core.expert_spec import ExpertSpec
from h2q.core.latent_spec import LatentSpec
from h2q.core.mlp_tensors import PLAIN, ExpertNames, expert_names
from h2q.core.specs import CLAMPED, ModelSpec

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]
Read = Callable[[str], FloatArray]


def power(weights: FloatArray, axis: int) -> Rows:
    """Sums of squares over an axis."""
    sums = "ij,ij->j" if axis == 0 else "ij,ij->i"
    return np.asarray(np.einsum(sums, weights, weights, dtype=np.float64))


def middle(above: Rows, below: Rows) -> FloatArray:
    """sqrt(above / below), what makes both equal; 1 where either is zero or not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = np.sqrt(above / below).astype(np.float32)
    return np.where(np.isfinite(scale) & (scale > 0), scale, np.float32(1))


class MixturePairs:
    """Scales of the mixture of one layer; `norm` is the name of the gain before it."""

    def __init__(
        self, spec: ModelSpec, experts: ExpertSpec, layer: str, norm: str, read: Read
    ) -> None:
        self.experts, self.read, self.norm = experts, read, norm
        self.names = expert_names(spec)
        self.room, self.clamped = f"{layer}.{self.names.room}", spec.hidden_act == CLAMPED
        self._scales: dict[str, FloatArray] = {}

    def scaled(self, name: str, found: FloatArray) -> FloatArray:
        """The tensor `name` as it is to be."""
        if name == self.norm:
            return found / self._behind()
        if found.ndim != 2:  # biases, what corrects the router's choice
            return found
        owner, matrix = name.removesuffix(".weight").rsplit(".", 1)
        if owner == self.room:  # the router, the gate of the shared expert
            return found * self._behind()
        names = self._names(owner)
        if matrix == names.down:
            return found / self._inner(owner)
        found = found * self._behind()
        return found * self._inner(owner)[:, None] if matrix == names.up else found

    def _names(self, owner: str) -> ExpertNames:
        return self.names if ".experts." in owner else PLAIN

    def _owners(self) -> Iterator[str]:
        for expert in range(self.experts.num_experts):
            yield f"{self.room}.experts.{expert}"
        if self.experts.n_shared_experts:
            yield f"{self.room}.{self.names.shared}"

    def _behind(self) -> FloatArray:
        """What columns of all that read the norm are multiplied by, and its gain divided."""
        if self.norm not in self._scales:
            gain = np.abs(self.read(self.norm)).astype(np.float64)
            columns = np.zeros(len(gain))
            for owner in self._owners():
                names = self._names(owner)
                up = self.read(f"{owner}.{names.up}.weight") * self._inner(owner)[:, None]
                columns += power(self.read(f"{owner}.{names.gate}.weight"), 0) + power(up, 0)
            self._scales[self.norm] = middle(gain, np.sqrt(columns))
        return self._scales[self.norm]

    def _inner(self, owner: str) -> FloatArray:
        """What rows of an expert's up are multiplied by; the columns of its down are divided."""
        if owner not in self._scales:
            names = self._names(owner)
            up = self.read(f"{owner}.{names.up}.weight") * self.read(self.norm)
            if self.clamped:
                return np.ones(len(up), np.float32)
            down = self.read(f"{owner}.{names.down}.weight")
            self._scales[owner] = middle(np.sqrt(power(down, 0)), np.sqrt(power(up, 1)))
        return self._scales[owner]


class LatentPairs:
    """Scales of the latent attention of one layer."""

    def __init__(self, spec: ModelSpec, latent: LatentSpec, layer: str, read: Read) -> None:
        self.spec, self.latent, self.read = spec, latent, read
        self.layer, self.name = layer, f"{layer}.self_attn"
        self._scales: dict[str, FloatArray] = {}
        first = "q_proj" if latent.q_lora_rank is None else "q_a_proj"
        self.norms = {  # by name: the matrices behind it
            f"{layer}.input_layernorm": (first, "kv_a_proj_with_mqa"),
            f"{self.name}.q_a_layernorm": ("q_b_proj",),
            f"{self.name}.kv_a_layernorm": ("kv_b_proj",),
        }

    def scaled(self, name: str, found: FloatArray) -> FloatArray:
        """The tensor `name` as it is to be."""
        plain = name.removesuffix(".weight")
        if plain in self.norms:
            return found / self._behind(plain)
        matrix = plain.rsplit(".", 1)[1]
        if matrix == "o_proj":
            return found / self._values().reshape(-1)
        for norm, readers in self.norms.items():
            if matrix in readers:
                return self._written(matrix, found) * self._behind(norm)
        return found

    def _behind(self, norm: str) -> FloatArray:
        if norm not in self._scales:
            gain = np.abs(self.read(f"{norm}.weight")).astype(np.float64)
            columns = np.zeros(len(gain))
            for reader in self.norms[norm]:
                weights = self.read(f"{self.name}.{reader}.weight")
                columns += power(self._written(reader, weights), 0)
            self._scales[norm] = middle(gain, np.sqrt(columns))
        return self._scales[norm]

    def _written(self, matrix: str, weights: FloatArray) -> FloatArray:
        """Rows of kv_b that make values are scaled; others stay."""
        if matrix != "kv_b_proj":
            return weights
        heads = np.array(weights.reshape(self.spec.num_attention_heads, -1, weights.shape[1]))
        heads[:, self.latent.qk_nope_head_dim :] *= self._values()[..., None]
        return heads.reshape(weights.shape)

    def _values(self) -> FloatArray:
        """What value rows of kv_b are multiplied by, float32 (heads, v_head_dim); the columns of o
        are divided.
        """
        if "values" not in self._scales:
            heads = self.spec.num_attention_heads
            gain = self.read(f"{self.name}.kv_a_layernorm.weight")
            rows = power(self.read(f"{self.name}.kv_b_proj.weight") * gain, 1)
            writes = rows.reshape(heads, -1)[:, self.latent.qk_nope_head_dim :]
            reads = power(self.read(f"{self.name}.o_proj.weight"), 0).reshape(heads, -1)
            self._scales["values"] = middle(np.sqrt(reads), np.sqrt(writes))
        return self._scales["values"]
