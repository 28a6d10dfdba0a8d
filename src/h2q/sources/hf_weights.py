"""Tensors in safetensors shards, checked against a model's description, read when asked for:
floats, fp8 with scales, matrices that are parts of others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.safetensors_header import TensorEntry, read_header
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.float8 import SCALE_SUFFIXES, TABLES, Float8, FloatArray, scale, widen
from h2q.sources.hf_stacked import split_stacked
from h2q.sources.hf_tensors import norm_offset, refuse_strangers, split_joined
from h2q.sources.source import fault

COMPARED_BYTES = 16 << 20  # of two tensors that should be equal, at a time
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
STORED = {**FLOATS, **dict.fromkeys(TABLES, np.dtype("u1"))}


class StoredWeights:
    """Every tensor of the architecture is in the shards, in the right shape, with its scales.
    `where` names their folder, `float8` says how fp8 weights are scaled. Raises SourceError.
    """

    def __init__(
        self, spec: ModelSpec, shards: Sequence[Path], where: str, float8: Float8 | None
    ) -> None:
        self.spec, self.where, self._float8 = spec, where, float8
        self._entries: dict[str, tuple[Path, TensorEntry]] = {}
        for shard in shards:
            for name, entry in read_header(shard, SourceError).items():
                if name in self._entries:
                    raise SourceError(f"{name} is stored twice.", where=shard.name)
                self._entries[name] = shard, entry
        self.stored_bytes = sum(entry.end - entry.begin for _, entry in self._entries.values())
        self._entries = split_joined(spec, self._entries)
        self._entries, self._slabs = split_stacked(spec, self._entries)
        self._grids: dict[str, tuple[str, tuple[int, int]]] = {}
        table = tensors(spec)
        for tensor in table:
            if tensor.name not in self._slabs:
                self._require(tensor)
        refuse_strangers(spec, self._entries, {tensor.name for tensor in table})
        self._tie_unproven = spec.tie_word_embeddings and HEAD in self._entries

    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return [*self._entries, *self._slabs]

    def tensor(self, name: str) -> FloatArray:
        """A tensor widened to float32. Raises SourceError when it is missing, holds a value that is
        not finite, or is an embedding whose tied head differs.
        """
        if name in self._slabs:
            wide = self._slabs[name].read(self._widened)
            if found := fault(wide):
                raise self._damaged(self._slabs[name].values, found)
            return wide
        if name not in self._entries:
            raise SourceError(f"There is no tensor {name}.", where=self.where)
        if name == EMBEDDING and self._tie_unproven:
            self._require_tie()
        wide = self._widened(self._entries[name])
        if name in self._grids:
            scales, grid = self._grids[name]
            factors = self._widened(self._entries[scales])
            if not (factors >= 0).all():
                raise self._damaged(self._entries[scales], "holds a scale below zero")
            scale(wide, factors, grid)
            if found := fault(wide):
                raise self._damaged(self._entries[name], found)
        if offset := norm_offset(self.spec, name):
            wide += np.float32(offset)
        return wide

    def _widened(self, place: tuple[Path, TensorEntry]) -> FloatArray:
        """Stored values as float32, all finite, before scaling; bytes as whole numbers."""
        path, entry = place
        kind = STORED.get(entry.dtype, np.dtype("u1"))
        try:
            count = (entry.end - entry.begin) // kind.itemsize
            stored = np.fromfile(path, kind, count, offset=entry.begin)
        except OSError as error:
            raise SourceError(
                f"The file cannot be read: {error.strerror}.", where=path.name
            ) from error
        if stored.size != np.prod(entry.shape):
            raise self._damaged(place, "is cut short")
        if entry.dtype in TABLES:
            wide = widen(stored, entry.dtype)
        elif entry.dtype == "BF16":
            halves = np.zeros((stored.size, 2), np.uint16)
            halves[:, 1 if sys.byteorder == "little" else 0] = stored
            wide = halves.view(np.float32)
        else:
            wide = stored.astype(np.float32)
        if found := fault(wide):
            raise self._damaged(place, found)
        return np.asarray(wide.reshape(entry.shape))

    def _damaged(self, place: tuple[Path, TensorEntry], what: str) -> SourceError:
        return SourceError(
            f"The tensor {what}.",
            where=f"{place[0].name}: {place[1].name}",
            fix="Fetch the checkpoint again.",
        )

    def _require(self, tensor: TensorSpec) -> None:
        if tensor.name not in self._entries:
            raise SourceError(
                f"The checkpoint lacks {tensor.name}.",
                where=self.where,
                fix="If the head is the embedding, config.json says so: tie_word_embeddings."
                if tensor.name == HEAD
                else "Is a shard missing, or is config.json of another model?",
            )
        entry = self._entries[tensor.name][1]
        if entry.shape != tensor.shape:
            raise SourceError(
                f"The config asks for shape {tensor.shape}, the file holds {entry.shape}.",
                where=tensor.name,
                fix="config.json and weights do not belong together.",
            )
        if entry.dtype not in STORED:
            raise SourceError(
                f"The element type {entry.dtype} is not supported.",
                where=tensor.name,
                fix=f"Supported: {', '.join(STORED)}.",
            )
        self._require_scales(tensor.name, entry)

    def _require_scales(self, name: str, entry: TensorEntry) -> None:
        """An fp8 weight has one tensor of scales, of the shape its config announces; no other
        weight has any.
        """
        scales = [name + suffix for suffix in SCALE_SUFFIXES if name + suffix in self._entries]
        if entry.dtype not in TABLES and not scales:
            return
        if entry.dtype not in TABLES or self._float8 is None or len(scales) != 1:
            raise SourceError(
                f"The weight of type {entry.dtype} has {len(scales)} tensors of scales, and the "
                f"config {'announces' if self._float8 else 'does not announce'} fp8.",
                where=name,
                fix="An fp8 weight needs quantization_config and exactly one tensor of scales.",
            )
        table = self._entries[scales[0]][1]
        grid = self._float8.grid(entry.shape, table.shape)
        if grid is None or table.dtype not in FLOATS:
            raise SourceError(
                f"Scales of shape {table.shape} and type {table.dtype} do not belong to a weight "
                f"of shape {entry.shape}.",
                where=scales[0],
                fix="config.json and weights do not belong together.",
            )
        self._grids[name] = scales[0], grid

    def _require_tie(self) -> None:
        """A stored head that config.json ties to the embedding holds the embedding's bytes."""
        names = [EMBEDDING, HEAD]
        if EMBEDDING in self._grids:
            scales = self._grids[EMBEDDING][0]
            names += [scales, scales.replace(EMBEDDING, HEAD)]
        for mine, other in zip(names[::2], names[1::2], strict=True):
            if other not in self._entries or not self._same(mine, other):
                raise SourceError(
                    "The config ties the head to the embedding, but the file holds another head.",
                    where=other,
                    fix="Say `tie_word_embeddings: false` in config.json if the head is its own.",
                )
        self._tie_unproven = False

    def _same(self, first: str, second: str) -> bool:
        (path, one), (other_path, two) = self._entries[first], self._entries[second]
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            return False
        with path.open("rb") as file, other_path.open("rb") as other:
            file.seek(one.begin)
            other.seek(two.begin)
            left = one.end - one.begin
            while left:
                size = min(left, COMPARED_BYTES)
                part = file.read(size)
                if len(part) != size or part != other.read(size):
                    return False
                left -= size
        return True
