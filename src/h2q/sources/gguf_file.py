"""A GGUF file, or the shards of a split one, as a source. Our parser reads the header, the `gguf`
package the blocks; tensors are read when asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError, shown
from h2q.core.specs import ModelSpec
from h2q.sources.gguf_blocks import read_weights, require_readable
from h2q.sources.gguf_config import model_spec
from h2q.sources.gguf_families import MOST_FACTORS, TABLES
from h2q.sources.gguf_names import in_halves
from h2q.sources.gguf_places import expansion, find_places
from h2q.sources.gguf_shards import open_shards
from h2q.sources.gguf_tokenizer import tokenizer_json
from h2q.sources.gguf_vocabulary import read_vocabulary
from h2q.sources.latent_order import half_split
from h2q.sources.source import require_template


class GGUFSource:
    """An opened model: every tensor of the architecture is there, in the right shape and of a type
    that can be read, and no other. Raises SourceError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise SourceError("There is no such file.", where=path.name)
        model = open_shards(path)
        self._metadata, self._tensors = model.metadata, model.tensors
        self._vocabulary = read_vocabulary(model.metadata)
        tables = {name: self._numbers(name) for name in TABLES if name in model.tensors}
        self.spec: ModelSpec = model_spec(model.metadata, self._vocabulary, model.tensors, tables)
        self._places = find_places(self.spec, model.tensors, path.name)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(tensor.end - tensor.begin for _, tensor in self._tensors.values())

    def names(self) -> list[str]:
        """Names of all tensors, as Hugging Face calls them."""
        return list(self._places)

    def files(self) -> tuple[Path, ...]:
        """Every shard that holds a tensor, first shard first."""
        return tuple(dict.fromkeys(path for found in self._places.values() for path, _ in found))

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor in float32, rows in Hugging Face's order. Raises SourceError when it is missing
        or holds a value that is not finite.
        """
        if name not in self._places:
            raise SourceError(f"There is no tensor {shown(name)}.", where=self.path.name)
        parts = [read_weights(path, place) for path, place in self._places[name]]
        wide = expansion(*parts) if len(parts) > 1 else parts[0]
        if self.spec.latent is not None:
            return half_split(self.spec.latent, name, wide)
        return in_halves(name, wide, self.spec)

    def tokenizer_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json, made from the metadata."""
        return tokenizer_json(self._vocabulary)

    def chat_template(self) -> str | None:
        """The Jinja template of a conversation, where the file has one."""
        found = self._metadata.text("tokenizer.chat_template")
        return None if found is None else require_template(found, self.path.name)

    def _numbers(self, name: str) -> tuple[float, ...]:
        """A tensor that is a short list of numbers."""
        path, place = self._tensors[name]
        if len(place.shape) != 1 or place.shape[0] > MOST_FACTORS:
            raise SourceError("The tensor is no short list.", where=f"{self.path.name}: {name}")
        require_readable(place)
        return tuple(map(float, read_weights(path, place)))
