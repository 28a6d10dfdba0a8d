"""The same function, with channels as loud as suits coding.

A model's function does not change when a channel between two matrices is made louder and its reader
inversely quieter: behind a norm (gain and the columns of its readers), between v and o, between up
and down (what the gate multiplies is not bent, except in gpt-oss, whose ups stay; biases of v and
up are scaled with their rows). What else families do to a stream, queries or keys stays as it
is.

Models come with any such scales, some with channels hundreds of times louder than others; those
drown the rest in the moments that shape coding, and in the int8 inputs of the kernels. Here each
pair is put into the middle: writer and reader of a channel get the same norm. The result does not
depend on the scales that were found, so all twins of a model become one. (Cross-layer equalization,
Nagel et al. 2019.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import norms_between
from h2q.core.mlp_tensors import expert_names
from h2q.core.specs import ModelSpec
from h2q.crystallize.balance_pairs import LatentPairs, MixturePairs, middle, power
from h2q.sources import Source

FloatArray = npt.NDArray[np.float32]


class BalancedSource:
    """`source` with balanced channels; tensors are read when asked for, two or three more than
    asked for the first time. Raises what the source raises.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._scales: dict[str, FloatArray] = {}
        self._mlp_norm = norms_between(source.spec)[-1]
        self._pairs: dict[str, MixturePairs | LatentPairs] = {}

    @property
    def spec(self) -> ModelSpec:
        return self.source.spec

    def tokenizer_json(self) -> str:
        return self.source.tokenizer_json()

    def chat_template(self) -> str | None:
        return self.source.chat_template()

    def files(self) -> tuple[Path, ...]:
        return self.source.files()

    def tensor(self, name: str) -> FloatArray:
        """Float32, its rows or columns scaled where they have a partner."""
        found = np.asarray(self.source.tensor(name), np.float32)
        words = name.split(".")
        if len(words) < 4 or words[1] != "layers":
            return found
        layer, kind = ".".join(words[:3]), words[-2]
        if pairs := self._others(int(words[2]), words):
            return pairs.scaled(name, found)
        if words[-1] == "bias":
            scales = {"v_proj": self._values, "up_proj": self._inner}.get(kind)
            return found if scales is None else found * scales(layer)
        if kind == "input_layernorm":
            return found / self._behind_norm(layer, kind, "self_attn", "qkv")
        if kind == self._mlp_norm:
            return found / self._behind_norm(layer, kind, "mlp", ("gate", "up"))
        if kind in ("q_proj", "k_proj", "v_proj"):
            found = found * self._behind_norm(layer, "input_layernorm", "self_attn", "qkv")
            return found * self._values(layer)[:, None] if kind == "v_proj" else found
        if kind in ("gate_proj", "up_proj"):
            found = found * self._behind_norm(layer, self._mlp_norm, "mlp", ("gate", "up"))
            return found * self._inner(layer)[:, None] if kind == "up_proj" else found
        if kind == "o_proj":
            return found / self._heads(self._values(layer)).reshape(-1)
        if kind == "down_proj":
            return found / self._inner(layer)
        return found

    def _others(self, index: int, words: Sequence[str]) -> MixturePairs | LatentPairs | None:
        """The pairs of a tensor of a latent or a mixture; None for all others."""
        spec, layer, kind = self.spec, ".".join(words[:3]), words[-2]
        if words[3] in ("self_attn", "input_layernorm"):
            if spec.latent is None:
                return None
            if f"{layer}.latent" not in self._pairs:
                self._pairs[f"{layer}.latent"] = LatentPairs(spec, spec.latent, layer, self._read)
            return self._pairs[f"{layer}.latent"]
        behind = words[3] == expert_names(spec).room or kind == self._mlp_norm
        if not behind or spec.experts is None or not spec.experts.mixed(index):
            return None
        if layer not in self._pairs:
            norm = f"{layer}.{self._mlp_norm}.weight"
            self._pairs[layer] = MixturePairs(spec, spec.experts, layer, norm, self._read)
        return self._pairs[layer]

    def _behind_norm(self, layer: str, norm: str, room: str, readers: Sequence[str]) -> FloatArray:
        """What columns of the readers are multiplied by, and the gain divided."""
        key = f"{layer}.{norm}.weight"
        if key not in self._scales:
            columns = [power(self._written(layer, room, reader), 0) for reader in readers]
            gain = np.abs(self._read(key)).astype(np.float64)
            self._scales[key] = middle(gain, np.sqrt(np.sum(columns, axis=0)))
        return self._scales[key]

    def _written(self, layer: str, room: str, reader: str) -> FloatArray:
        """A matrix behind a norm, its rows balanced already."""
        weights = self._read(f"{layer}.{room}.{reader}_proj.weight")
        if reader == "v":
            return weights * self._values(layer)[:, None]
        return weights * self._inner(layer)[:, None] if reader == "up" else weights

    def _values(self, layer: str) -> FloatArray:
        """What rows of v are multiplied by; the columns of o that read them are divided."""
        key = f"{layer}.self_attn.v_proj.weight"
        if key not in self._scales:
            norm = self._read(f"{layer}.input_layernorm.weight")
            writes = np.sqrt(power(self._read(key) * norm, 1))
            columns = power(self._read(f"{layer}.self_attn.o_proj.weight"), 0)
            spec = self.spec
            shared = columns.reshape(spec.num_key_value_heads, -1, spec.head_dim).sum(axis=1)
            self._scales[key] = middle(np.sqrt(shared).reshape(-1), writes)
        return self._scales[key]

    def _heads(self, values: FloatArray) -> FloatArray:
        """A scale per channel of every query head from those of the value heads."""
        spec = self.spec
        heads = values.reshape(spec.num_key_value_heads, spec.head_dim)
        return np.repeat(heads, spec.num_attention_heads // spec.num_key_value_heads, axis=0)

    def _inner(self, layer: str) -> FloatArray:
        """What rows of up are multiplied by; the columns of down are divided."""
        key = f"{layer}.mlp.up_proj.weight"
        if key not in self._scales:
            norm = self._read(f"{layer}.{self._mlp_norm}.weight")
            writes = np.sqrt(power(self._read(key) * norm, 1))
            reads = np.sqrt(power(self._read(f"{layer}.mlp.down_proj.weight"), 0))
            self._scales[key] = middle(reads, writes)
        return self._scales[key]

    def _read(self, name: str) -> FloatArray:
        return np.asarray(self.source.tensor(name), np.float32)
