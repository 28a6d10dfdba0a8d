"""What every kind of source offers, whatever its files look like."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q.core.specs import ModelSpec


class Source(Protocol):
    """A model to be read: its description, its tensors under Hugging Face names, its tokenizer."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def tokenizer_path(self) -> Path: ...

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor widened to float32, read from the file at the call. Raises SourceError."""
        ...
