"""Bodies of Anthropic's API as they come in."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from h2q.server.wire import Wire


class CountRequest(Wire):
    """A conversation whose tokens are to be counted."""

    model: str = ""
    messages: list[dict[str, Any]] = []
    system: Any = Field(None, description="a text, or a list of text blocks")
    tools: list[dict[str, Any]] = []
    tool_choice: dict[str, Any] = {}
    thinking: dict[str, Any] = {}
    output_config: dict[str, Any] = {}


class MessagesRequest(CountRequest):
    """A conversation to answer."""

    max_tokens: int | None = Field(None, description="required; 1 or more")
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
