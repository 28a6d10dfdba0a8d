"""What every kind of source offers, whatever its files look like."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError
from h2q.core.specs import ModelSpec

LARGEST = 1 << 20  # a weight beyond it is a flipped bit; float32 would overflow in a few layers
TEMPLATE_LIMIT = 1 << 20  # bytes of a chat template in UTF-8; crystals hold no larger one


class Source(Protocol):
    """A model to be read: its description, its tensors under Hugging Face names, its tokenizer."""

    @property
    def spec(self) -> ModelSpec: ...

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor widened to float32, read from the file at the call. Raises SourceError."""
        ...

    def tokenizer_json(self) -> str:
        """The text of a tokenizer.json as the `tokenizers` library reads it. Raises SourceError."""
        ...

    def chat_template(self) -> str | None:
        """The Jinja template of a conversation, where the model has one. Raises SourceError."""
        ...

    def files(self) -> tuple[Path, ...]:
        """The files that decide what `tensor` gives, in a fixed order."""
        ...


def require_template(text: str, where: str) -> str:
    """The chat template as it is. Raises SourceError when it is too large or no Unicode text."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise SourceError("The chat template is not Unicode text.", where=where) from error
    if size > TEMPLATE_LIMIT:
        raise SourceError(f"The chat template exceeds {TEMPLATE_LIMIT:,} bytes.", where=where)
    return text


def fault(values: npt.NDArray[np.float32]) -> str:
    """What is wrong with the values of a tensor, as the end of a sentence; "" where nothing is."""
    low, high = values.min(initial=0), values.max(initial=0)
    if low >= -LARGEST and high <= LARGEST:  # NaN is neither
        return ""
    if not np.isfinite(values).all():
        return "holds a value that is not finite"
    return f"holds {max(high, -low):.3g}, and no weight is beyond {LARGEST:,}"
