"""Floor 3: words. Tokenizers as the Hugging Face library reads them, text that streams, chat
templates in a sandbox, and what an answer is made of: content, reasoning, calls.
"""

from h2q.text.dialects import DIALECTS, Dialect, dialect_of, opens_reasoning
from h2q.text.infill import fim_prompt, infill_tokens
from h2q.text.splitter import Content, Reasoning, SplitEvent, Splitter, ToolCall
from h2q.text.stops import StopStrings
from h2q.text.stream import ByteStream, TextStream
from h2q.text.template import ChatTemplate
from h2q.text.tokenizer import Tokenizer

__all__ = [
    "DIALECTS",
    "ByteStream",
    "ChatTemplate",
    "Content",
    "Dialect",
    "Reasoning",
    "SplitEvent",
    "Splitter",
    "StopStrings",
    "TextStream",
    "Tokenizer",
    "ToolCall",
    "dialect_of",
    "fim_prompt",
    "infill_tokens",
    "opens_reasoning",
]
