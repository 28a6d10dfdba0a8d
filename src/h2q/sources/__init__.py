"""Floor 3: foreign files. Today Hugging Face folders; GGUF and Ollama stores attach here."""

from h2q.sources.hf_dir import HFDirectory, open_source
from h2q.sources.source import Source

__all__ = ["HFDirectory", "Source", "open_source"]
