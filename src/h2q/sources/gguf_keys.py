"""Metadata of one architecture in a GGUF file, each key under the name of its architecture."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from h2q.sources.gguf_metadata import Metadata

Fields = dict[str, Any]  # of a ModelSpec


@dataclass(frozen=True)
class Keys:
    """Metadata of one architecture: `number("rope.freq_base")` is that of its own key. names: of
    the tensors in the file.
    """

    metadata: Metadata
    kind: str
    names: Container[str] = ()

    def number(self, name: str, default: float = 0.0) -> float:
        """A number, or the default where the key is absent."""
        found = self.metadata.number(f"{self.kind}.{name}")
        return default if found is None else shortest(found)

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number, or the default where the key is absent."""
        found = self.metadata.integer(f"{self.kind}.{name}")
        return default if found is None else found

    def needed(self, name: str) -> int:
        """A whole number that must be there. Raises SourceError."""
        return self.metadata.required(f"{self.kind}.{name}")

    def present(self, name: str) -> bool:
        """Whether there is such a key."""
        return f"{self.kind}.{name}" in self.metadata.values


def shortest(value: float) -> float:
    """The decimal number that a float32 was written for: 9.999999747378752e-06 -> 1e-05."""
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    return float(str(narrow)) if narrow == value else value
