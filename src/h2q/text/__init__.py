"""Floor 3: words. Tokenizers as the Hugging Face library reads them, and text that streams."""

from h2q.text.tokenizer import TextStream, Tokenizer

__all__ = ["TextStream", "Tokenizer"]
