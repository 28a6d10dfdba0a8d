"""A GGUF file, or the shards of a split one, as a source. Our parser reads the header, the `gguf`
package the blocks; tensors are read when asked for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError, shown
from h2q.core.gguf_header import GGUFTensor
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.gguf_blocks import read_weights, require_readable
from h2q.sources.gguf_config import model_spec
from h2q.sources.gguf_families import MOST_FACTORS, TABLES
from h2q.sources.gguf_names import gguf_name, in_halves, joined
from h2q.sources.gguf_shards import open_shards
from h2q.sources.gguf_tokenizer import tokenizer_json
from h2q.sources.gguf_vocabulary import read_vocabulary
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
        self._places: dict[str, tuple[Path, GGUFTensor]] = {}
        self._require_tensors()

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(tensor.end - tensor.begin for _, tensor in self._tensors.values())

    def names(self) -> list[str]:
        """Names of all tensors, as Hugging Face calls them."""
        return list(self._places)

    def files(self) -> tuple[Path, ...]:
        """Every shard that holds a tensor, first shard first."""
        return tuple(dict.fromkeys(path for path, _ in self._places.values()))

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor in float32, rows in Hugging Face's order. Raises SourceError when it is missing
        or holds a value that is not finite.
        """
        if name not in self._places:
            raise SourceError(f"There is no tensor {shown(name)}.", where=self.path.name)
        path, place = self._places[name]
        return in_halves(name, read_weights(path, place), self.spec)

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

    def _rows(
        self, found: tuple[Path, GGUFTensor], part: tuple[str, int, int], tensor: TensorSpec
    ) -> tuple[Path, GGUFTensor]:
        """Rows of a joined matrix as a tensor of their own."""
        (path, place), (name, first, whole) = found, part
        rows, cols = tensor.shape
        if place.shape != (cols, whole):
            raise SourceError(
                f"The metadata ask for shape {(whole, cols)}, the file holds {place.shape[::-1]}.",
                where=name,
                fix="Metadata and weights do not belong together.",
            )
        require_readable(place)
        size = cols // place.type.block * place.type.bytes
        begin = place.begin + first * size
        return path, replace(place, shape=(cols, rows), begin=begin, end=begin + rows * size)

    def _require_tensors(self) -> None:
        left, used = dict(self._tensors), set(TABLES)
        if self.spec.num_hidden_layers > len(left):
            raise SourceError(
                f"The metadata ask for {self.spec.num_hidden_layers:,} layers, the file holds "
                f"{len(left):,} tensors.",
                where=self.path.name,
                fix="Is it the file of another model, or a vocabulary alone?",
            )
        for tensor in tensors(self.spec):
            name = gguf_name(tensor.name, self.spec)
            if (part := joined(tensor.name, self.spec)) is not None:
                name = part[0]
                used.add(name)
                if name in left:
                    self._places[tensor.name] = self._rows(left[name], part, tensor)
                    continue
            if name not in left:
                raise SourceError(
                    f"The file lacks {name}.",
                    where=self.path.name,
                    fix="Is it the file of another model, or a vocabulary alone?",
                )
            path, place = left.pop(name)
            if place.shape[::-1] != tensor.shape:
                raise SourceError(
                    f"The metadata ask for shape {tensor.shape}, the file holds "
                    f"{place.shape[::-1]}.",
                    where=name,
                    fix="Metadata and weights do not belong together.",
                )
            require_readable(place)
            self._places[tensor.name] = path, place
        left = {name: place for name, place in left.items() if name not in used}
        if left:
            raise SourceError(
                f"The file holds {len(left):,} tensors this version does not know, such as "
                f"{shown(next(iter(left)))}.",
                where=self.path.name,
                fix="They would have to be ignored, and the model would not be the same.",
            )
