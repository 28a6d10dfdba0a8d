"""Floor 3: foreign files. Hugging Face folders and the hub, GGUF files, Ollama stores.

Names load on first use: who only fetches files needs no arrays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.sources.hf_dir import HFDirectory
    from h2q.sources.open import open_source
    from h2q.sources.source import Source

_HOMES = {"HFDirectory": "hf_dir", "Source": "source", "open_source": "open"}

__all__ = ["HFDirectory", "Source", "open_source"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"h2q.sources.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'h2q.sources' has no attribute {name!r}")
