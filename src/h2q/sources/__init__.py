"""Floor 3: foreign files. Today Hugging Face folders; GGUF and Ollama stores attach here."""

from h2q.sources.hf_dir import open_source
from h2q.sources.source import Source

__all__ = ["Source", "open_source"]
