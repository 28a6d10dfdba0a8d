"""A Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json. Tensors are
read when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError
from h2q.core.files import read_bounded
from h2q.core.safetensors_header import read_json
from h2q.core.specs import ModelSpec
from h2q.sources.float8 import Float8, read_float8
from h2q.sources.hf_config import model_spec
from h2q.sources.hf_stacked import is_stacked
from h2q.sources.hf_tokenizer import without_rowless
from h2q.sources.hf_weights import StoredWeights
from h2q.sources.latent_order import half_split
from h2q.sources.source import TEMPLATE_LIMIT, require_template

CONFIG_LIMIT = 1 << 20
INDEX_LIMIT = 64 << 20
TOKENIZER_LIMIT = 256 << 20


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
    float8 = None if is_stacked(spec, config) else read_float8(config, "config.json")
    return spec, Form(float8, in_pairs)


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
        self._in_pairs = form.in_pairs
        self.tokenizer_path = path / "tokenizer.json"
        if not self.tokenizer_path.is_file():
            raise SourceError(
                "The folder has no tokenizer.json.",
                where=path.name,
                fix="Save the model's fast tokenizer next to its weights.",
            )
        self._files = self._shards()
        self._weights = StoredWeights(self.spec, self._files, path.name, form.float8)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return self._weights.stored_bytes

    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return self._weights.names()

    def files(self) -> tuple[Path, ...]:
        """config.json, which says how fp8 weights are scaled, and the shards."""
        return self.path / "config.json", *self._files

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor widened to float32. Raises SourceError when it is missing, holds a value that is
        not finite, or is an embedding whose tied head differs.
        """
        wide = self._weights.tensor(name)
        if self._in_pairs and self.spec.latent is not None:
            return half_split(self.spec.latent, name, wide)
        return wide

    def tokenizer_json(self) -> str:
        """The text of tokenizer.json, without added tokens that the model has no row for. Raises
        SourceError when it is too large or not UTF-8.
        """
        text = read_text(self.tokenizer_path, TOKENIZER_LIMIT)
        return without_rowless(text, self.spec.vocab_size, self.tokenizer_path.name)

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

    def _shards(self) -> list[Path]:
        single, index = self.path / "model.safetensors", self.path / "model.safetensors.index.json"
        if single.is_file():  # an index beside it is not asked, as transformers does not
            return [single]
        if not index.is_file():
            raise SourceError(
                "The folder has neither model.safetensors nor an index of shards.",
                where=self.path.name,
                fix="Convert pickled weights to safetensors; they are never unpickled here.",
            )
        shards = [self.path / name for name in read_index(index)]
        for shard in shards:
            if not shard.is_file():
                raise SourceError(
                    f"The shard {shard.name} is missing.",
                    where=self.path.name,
                    fix="Fetch it again.",
                )
        return shards
