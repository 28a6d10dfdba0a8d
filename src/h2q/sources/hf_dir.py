"""A Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json. Tensors are
read when asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.safetensors_header import TensorEntry, read_header, read_json
from h2q.core.specs import ModelSpec
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.hf_config import model_spec
from h2q.sources.source import Source

CONFIG_LIMIT = 1 << 20
TOKENIZER_LIMIT = 256 << 20
INDEX_LIMIT = 64 << 20
STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


class HFDirectory:
    """An opened folder: every tensor of the architecture is there, in the right shape. Raises
    SourceError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        config = read_json(path / "config.json", CONFIG_LIMIT, SourceError)
        generation = path / "generation_config.json"
        stops = None
        if generation.exists():
            stops = read_json(generation, CONFIG_LIMIT, SourceError).get("eos_token_id")
        self.spec: ModelSpec = model_spec(config, stops, "config.json")
        self.tokenizer_path = path / "tokenizer.json"
        if not self.tokenizer_path.is_file():
            raise SourceError(
                "The folder has no tokenizer.json.",
                where=path.name,
                fix="Save the model's fast tokenizer next to its weights.",
            )
        self._entries: dict[str, tuple[Path, TensorEntry]] = {}
        for shard in self._shards():
            for name, entry in read_header(shard, SourceError).items():
                if name in self._entries:
                    raise SourceError(f"{name} is stored twice.", where=shard.name)
                self._entries[name] = shard, entry
        self._require_tensors()

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(entry.end - entry.begin for _, entry in self._entries.values())

    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return list(self._entries)

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor widened to float32. Raises SourceError when it is missing or holds a value that
        is not finite.
        """
        if name not in self._entries:
            raise SourceError(f"There is no tensor {name}.", where=self.path.name)
        path, entry = self._entries[name]
        try:
            stored = np.fromfile(
                path,
                STORED[entry.dtype],
                (entry.end - entry.begin) // STORED[entry.dtype].itemsize,
                offset=entry.begin,
            )
        except OSError as error:
            raise SourceError(f"The file cannot be read: {error}.", where=path.name) from error
        if entry.dtype == "BF16":
            wide = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            wide = stored.astype(np.float32)
        if wide.size != np.prod(entry.shape) or not np.isfinite(wide).all():
            raise SourceError(
                "The tensor is cut short or holds a value that is not finite.",
                where=f"{path.name}: {name}",
                fix="Fetch the checkpoint again.",
            )
        return np.asarray(wide.reshape(entry.shape))

    def tokenizer_json(self) -> str:
        """The text of tokenizer.json. Raises SourceError when it is too large or not UTF-8."""
        return read_text(self.tokenizer_path, TOKENIZER_LIMIT)

    def chat_template(self) -> str | None:
        """chat_template.jinja, else what tokenizer_config.json holds. Of several named templates
        the one called `default`.
        """
        file = self.path / "chat_template.jinja"
        if file.is_file():
            return read_text(file, CONFIG_LIMIT)
        config = self.path / "tokenizer_config.json"
        if not config.is_file():
            return None
        found = read_json(config, TOKENIZER_LIMIT, SourceError).get("chat_template")
        if isinstance(found, list):
            rows = [row for row in found if isinstance(row, dict) and row.get("name") == "default"]
            found = rows[0].get("template") if rows else None
        if found is not None and not isinstance(found, str):
            raise SourceError("The chat_template is not a text.", where=config.name)
        return found

    def _shards(self) -> list[Path]:
        single, index = self.path / "model.safetensors", self.path / "model.safetensors.index.json"
        if not index.exists():
            if not single.exists():
                raise SourceError(
                    "The folder has neither model.safetensors nor an index of shards.",
                    where=self.path.name,
                    fix="Convert pickled weights to safetensors; they are never unpickled here.",
                )
            return [single]
        table = read_json(index, INDEX_LIMIT, SourceError).get("weight_map")
        if not isinstance(table, dict):
            raise SourceError("The index has no weight_map.", where=index.name)
        names = []
        for name in dict.fromkeys(map(str, table.values())):
            if name != Path(name).name or name in ("", ".", "..") or "\\" in name or "\0" in name:
                raise SourceError("The index points outside the folder.", where=index.name)
            if not (self.path / name).is_file():
                raise SourceError(
                    f"The shard {name} is missing.", where=self.path.name, fix="Fetch it again."
                )
            names.append(self.path / name)
        return names

    def _require_tensors(self) -> None:
        for tensor in tensors(self.spec):
            if tensor.name not in self._entries:
                raise SourceError(
                    f"The checkpoint lacks {tensor.name}.",
                    where=self.path.name,
                    fix="Is a shard missing, or is config.json of another model?",
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


def read_text(path: Path, limit: int) -> str:
    """UTF-8 text of at most `limit` bytes. Raises SourceError."""
    try:
        if path.stat().st_size > limit:
            raise SourceError(f"The file is larger than {limit:,} bytes.", where=path.name)
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise SourceError(f"The file cannot be read: {error.strerror}.", where=path.name) from error
    except UnicodeDecodeError as error:
        raise SourceError("The file is not UTF-8 text.", where=path.name) from error


def open_source(path: Path) -> Source:
    """Open a model to be read. Raises SourceError with what is wrong and what to do."""
    if path.suffix == ".gguf":
        return GGUFSource(path)
    if path.is_file():
        raise SourceError(
            "This is a file; this version reads Hugging Face folders and GGUF files.",
            where=path.name,
            fix="Give the folder that holds config.json, or a file ending in .gguf.",
        )
    if not (path / "config.json").is_file():
        raise SourceError(
            "There is no model here." if path.is_dir() else "There is no such folder.",
            where=path.name or str(path),
            fix="Give a folder with config.json, model.safetensors and tokenizer.json.",
        )
    return HFDirectory(path)
