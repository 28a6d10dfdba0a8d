"""A Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json. Tensors are
read when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.files import read_bounded
from h2q.core.safetensors_header import TensorEntry, read_header, read_json
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.float8 import SCALE_SUFFIXES, TABLES, Float8, FloatArray, read_float8, scale, widen
from h2q.sources.hf_config import model_spec
from h2q.sources.hf_tensors import norm_offset, refuse_strangers, split_joined
from h2q.sources.latent_order import half_split
from h2q.sources.source import TEMPLATE_LIMIT, require_template

CONFIG_LIMIT = 1 << 20
INDEX_LIMIT = 64 << 20
TOKENIZER_LIMIT = 256 << 20
COMPARED_BYTES = 16 << 20  # of two tensors that should be equal, at a time
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
STORED = {**FLOATS, **dict.fromkeys(TABLES, np.dtype("u1"))}


@dataclass(frozen=True)
class Form:
    """How weights are stored: as fp8, or None; whether rotary dimensions lie in pairs."""

    float8: Float8 | None
    in_pairs: bool


def read_config(folder: Path) -> tuple[ModelSpec, Form]:
    """What config.json and generation_config.json say about a model and its weights. Raises
    SourceError.
    """
    config = read_json(folder / "config.json", CONFIG_LIMIT, SourceError)
    generation = folder / "generation_config.json"
    stops = None
    if generation.is_file():
        stops = read_json(generation, CONFIG_LIMIT, SourceError).get("eos_token_id")
    spec = model_spec(config, stops, "config.json")
    in_pairs = spec.latent is not None and config.get("rope_interleave", True) is not False
    return spec, Form(read_float8(config, "config.json"), in_pairs)


def read_index(path: Path) -> list[str]:
    """Names of the shards an index lists, each a plain file name. Raises SourceError."""
    table = read_json(path, INDEX_LIMIT, SourceError).get("weight_map")
    if not isinstance(table, dict):
        raise SourceError("The index has no weight_map.", where=path.name)
    names = list(dict.fromkeys(map(str, table.values())))
    for name in names:
        if name != Path(name).name or name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise SourceError("The index points outside the folder.", where=path.name)
    return names


def read_text(path: Path, limit: int) -> str:
    """UTF-8 text of at most `limit` bytes. Raises SourceError."""
    try:
        return read_bounded(path, limit, SourceError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError("The file is not UTF-8 text.", where=path.name) from error


class HFDirectory:
    """An opened folder: every tensor of the architecture is there, in the right shape, with its
    scales. Raises SourceError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec, form = read_config(path)
        self._float8, self._in_pairs = form.float8, form.in_pairs
        self.tokenizer_path = path / "tokenizer.json"
        if not self.tokenizer_path.is_file():
            raise SourceError(
                "The folder has no tokenizer.json.",
                where=path.name,
                fix="Save the model's fast tokenizer next to its weights.",
            )
        self._entries: dict[str, tuple[Path, TensorEntry]] = {}
        self._files = self._shards()
        for shard in self._files:
            for name, entry in read_header(shard, SourceError).items():
                if name in self._entries:
                    raise SourceError(f"{name} is stored twice.", where=shard.name)
                self._entries[name] = shard, entry
        self._entries = split_joined(self.spec, self._entries)
        self._grids: dict[str, tuple[str, tuple[int, int]]] = {}
        table = tensors(self.spec)
        for tensor in table:
            self._require(tensor)
        refuse_strangers(self.spec, self._entries, {tensor.name for tensor in table})
        self._tie_unproven = self.spec.tie_word_embeddings and HEAD in self._entries

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(entry.end - entry.begin for _, entry in self._entries.values())

    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return list(self._entries)

    def files(self) -> tuple[Path, ...]:
        """config.json, which says how fp8 weights are scaled, and the shards."""
        return self.path / "config.json", *self._files

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor widened to float32. Raises SourceError when it is missing, holds a value that is
        not finite, or is an embedding whose tied head differs.
        """
        if name not in self._entries:
            raise SourceError(f"There is no tensor {name}.", where=self.path.name)
        if name == EMBEDDING and self._tie_unproven:
            self._require_tie()
        wide = self._widened(name)
        if name in self._grids:
            scales, grid = self._grids[name]
            factors = self._widened(scales)
            if not (factors >= 0).all():
                raise self._damaged(scales, "holds a scale below zero")
            with np.errstate(over="ignore"):  # an overflow has its own sentence below
                scale(wide, factors, grid)
            if not np.isfinite(wide).all():
                raise self._damaged(name, "leaves the range of float32 when scaled")
        if offset := norm_offset(self.spec, name):
            wide += np.float32(offset)
        if self._in_pairs and self.spec.latent is not None:
            return half_split(self.spec.latent, name, wide)
        return wide

    def tokenizer_json(self) -> str:
        """The text of tokenizer.json. Raises SourceError when it is too large or not UTF-8."""
        return read_text(self.tokenizer_path, TOKENIZER_LIMIT)

    def chat_template(self) -> str | None:
        """chat_template.jinja, else what tokenizer_config.json holds. Of several named templates
        the one called `default`.
        """
        file = self.path / "chat_template.jinja"
        if file.is_file():
            return read_text(file, TEMPLATE_LIMIT)
        config = self.path / "tokenizer_config.json"
        if not config.is_file():
            return None
        found = read_json(config, TOKENIZER_LIMIT, SourceError).get("chat_template")
        if isinstance(found, list):
            rows = [row for row in found if isinstance(row, dict) and row.get("name") == "default"]
            found = rows[0].get("template") if rows else None
        if found is not None and not isinstance(found, str):
            raise SourceError("The chat_template is not a text.", where=config.name)
        return None if found is None else require_template(found, config.name)

    def _widened(self, name: str) -> FloatArray:
        """Stored values as float32, all finite, before scaling."""
        path, entry = self._entries[name]
        kind = STORED[entry.dtype]
        try:
            count = (entry.end - entry.begin) // kind.itemsize
            stored = np.fromfile(path, kind, count, offset=entry.begin)
        except OSError as error:
            raise SourceError(
                f"The file cannot be read: {error.strerror}.", where=path.name
            ) from error
        if stored.size != np.prod(entry.shape):
            raise self._damaged(name, "is cut short")
        if entry.dtype in TABLES:
            wide = widen(stored, entry.dtype)
        elif entry.dtype == "BF16":
            wide = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            wide = stored.astype(np.float32)
        if not np.isfinite(wide).all():
            raise self._damaged(name, "holds a value that is not finite")
        return np.asarray(wide.reshape(entry.shape))

    def _damaged(self, name: str, what: str) -> SourceError:
        return SourceError(
            f"The tensor {what}.",
            where=f"{self._entries[name][0].name}: {name}",
            fix="Fetch the checkpoint again.",
        )

    def _shards(self) -> list[Path]:
        single, index = self.path / "model.safetensors", self.path / "model.safetensors.index.json"
        if not index.is_file():
            if not single.is_file():
                raise SourceError(
                    "The folder has neither model.safetensors nor an index of shards.",
                    where=self.path.name,
                    fix="Convert pickled weights to safetensors; they are never unpickled here.",
                )
            return [single]
        shards = [self.path / name for name in read_index(index)]
        for shard in shards:
            if not shard.is_file():
                raise SourceError(
                    f"The shard {shard.name} is missing.",
                    where=self.path.name,
                    fix="Fetch it again.",
                )
        return shards

    def _require(self, tensor: TensorSpec) -> None:
        if tensor.name not in self._entries:
            raise SourceError(
                f"The checkpoint lacks {tensor.name}.",
                where=self.path.name,
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
