"""Where in a GGUF file's tensors each tensor of a model lies: one of its own, rows of a joined one,
one expert of a stacked one, or the two halves of a latent's expansion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError, shown
from h2q.core.gguf_header import GGUFTensor
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.gguf_blocks import require_readable
from h2q.sources.gguf_families import TABLES
from h2q.sources.gguf_names import expert_of, gguf_name, joined

Place = tuple[Path, GGUFTensor]
FloatArray = npt.NDArray[np.float32]
ANOTHER = "Is it the file of another model, or a vocabulary alone?"


def find_places(
    spec: ModelSpec, stored: Mapping[str, Place], where: str
) -> dict[str, tuple[Place, ...]]:
    """By Hugging Face name: one place, or those of the two halves of kv_b_proj. Raises SourceError
    where one is missing, of another shape, or of a type that cannot be read, and where the file
    holds more than the model asks for.
    """
    if spec.num_hidden_layers > len(stored):
        raise SourceError(
            f"The metadata ask for {spec.num_hidden_layers:,} layers, the file holds "
            f"{len(stored):,} tensors.",
            where=where,
            fix=ANOTHER,
        )
    finder = _Finder(spec, stored, where)
    places = {tensor.name: finder.places(tensor) for tensor in tensors(spec)}
    left = [name for name in stored if name not in finder.used]
    if left:
        raise SourceError(
            f"The file holds {len(left):,} tensors this version does not know, such as "
            f"{shown(left[0])}.",
            where=where,
            fix="They would have to be ignored, and the model would not be the same.",
        )
    return places


class _Finder:
    def __init__(self, spec: ModelSpec, stored: Mapping[str, Place], where: str) -> None:
        self.spec, self.stored, self.where = spec, stored, where
        self.used = set(TABLES)

    def places(self, tensor: TensorSpec) -> tuple[Place, ...]:
        """Those of one tensor."""
        name = gguf_name(tensor.name, self.spec)
        if (part := joined(tensor.name, self.spec)) is not None:
            return (self._rows(*part, tensor),)
        if (expert := expert_of(tensor.name)) is not None:
            alone = name.replace("_exps.", f".{expert}.")  # as the first files of Mixtral had them
            if name in self.stored or alone not in self.stored:
                return (self._of_all(name, expert, tensor),)
            name = alone
        halves = tensor.name.endswith("kv_b_proj.weight") and name not in self.stored
        if halves and (latent := self.spec.latent) is not None:
            heads, rank = self.spec.num_attention_heads, latent.kv_lora_rank
            keys = self._found(
                name.replace("_kv_b", "_k_b"), (heads, rank, latent.qk_nope_head_dim)
            )
            values = self._found(name.replace("_kv_b", "_v_b"), (heads, latent.v_head_dim, rank))
            return keys, values
        if tensor.shape[0] == 1 and name in self.stored and len(self.stored[name][1].shape) == 1:
            path, place = self._found(name, tensor.shape[1:])
            return ((path, replace(place, shape=tensor.shape[::-1])),)
        return (self._found(name, tensor.shape),)

    def _found(self, name: str, shape: tuple[int, ...]) -> Place:
        """A tensor of this shape, slowest dimension first."""
        if name not in self.stored:
            raise SourceError(f"The file lacks {name}.", where=self.where, fix=ANOTHER)
        self.used.add(name)
        path, place = self.stored[name]
        if place.shape[::-1] != shape:
            raise SourceError(
                f"The metadata ask for shape {shape}, the file holds {place.shape[::-1]}.",
                where=name,
                fix="Metadata and weights do not belong together.",
            )
        require_readable(place)
        return path, place

    def _rows(self, name: str, first: int, whole: int, tensor: TensorSpec) -> Place:
        """Rows of a joined matrix as a tensor of their own."""
        rows, cols = tensor.shape
        path, place = self._found(name, (whole, cols))
        size = (place.end - place.begin) // whole
        begin = place.begin + first * size
        return path, replace(place, shape=(cols, rows), begin=begin, end=begin + rows * size)

    def _of_all(self, name: str, expert: int, tensor: TensorSpec) -> Place:
        """One expert of a stacked tensor as a tensor of its own."""
        count = self.spec.experts.num_experts if self.spec.experts is not None else 0
        path, place = self._found(name, (count, *tensor.shape))
        size = (place.end - place.begin) // count
        begin = place.begin + expert * size
        return path, replace(place, shape=tensor.shape[::-1], begin=begin, end=begin + size)


def expansion(keys: FloatArray, values: FloatArray) -> FloatArray:
    """kv_b_proj from its halves: float32 (heads, rank, nope) and (heads, v, rank) to (heads (nope +
    v), rank).
    """
    heads = np.concatenate([keys.transpose(0, 2, 1), values], axis=1)
    return np.ascontiguousarray(heads.reshape(-1, heads.shape[-1]))
