"""Floor 3: foreign files. Hugging Face folders and the hub, GGUF files, Ollama stores."""

from h2q.sources.hf_dir import HFDirectory
from h2q.sources.open import open_source
from h2q.sources.source import Source

__all__ = ["HFDirectory", "Source", "open_source"]
