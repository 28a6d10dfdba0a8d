"""Floor 3: words. Tokenizers as the Hugging Face library reads them, text that streams, chat
templates in a sandbox, and what an answer is made of: content, reasoning, calls.

Names load on first use: a first token waits for no template engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.text.dialects import DIALECTS, Dialect, dialect_of, opens_reasoning
    from h2q.text.infill import fim_prompt, infill_tokens
    from h2q.text.splitter import Content, Reasoning, SplitEvent, Splitter, ToolCall
    from h2q.text.stops import StopStrings
    from h2q.text.stream import ByteStream, TextStream
    from h2q.text.template import ChatTemplate
    from h2q.text.tokenizer import Tokenizer

_HOMES = {
    "DIALECTS": "dialects",
    "ByteStream": "stream",
    "ChatTemplate": "template",
    "Content": "splitter",
    "Dialect": "dialects",
    "Reasoning": "splitter",
    "SplitEvent": "splitter",
    "Splitter": "splitter",
    "StopStrings": "stops",
    "TextStream": "stream",
    "Tokenizer": "tokenizer",
    "ToolCall": "splitter",
    "dialect_of": "dialects",
    "fim_prompt": "infill",
    "infill_tokens": "infill",
    "opens_reasoning": "dialects",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"h2q.text.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'h2q.text' has no attribute {name!r}")
