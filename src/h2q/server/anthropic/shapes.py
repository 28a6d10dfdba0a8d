"""Bodies of Anthropic's API as they come in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from h2q.server.anthropic import looks
from h2q.server.wire import Like, Wire, needs


class CountRequest(Wire):
    """A conversation whose tokens are to be counted."""

    model_config = needs("model", "messages")

    model: str = ""
    messages: Annotated[list[dict[str, Any]], Like(list[looks.MessageGiven])] = []
    system: Annotated[Any, Like(str | list[looks.TextGiven])] = Field(
        None, description="a text, or a list of text blocks"
    )
    tools: Annotated[list[dict[str, Any]], Like(list[looks.ToolGiven])] = []
    tool_choice: Annotated[dict[str, Any], Like(looks.ToolChoiceGiven)] = {}
    thinking: dict[str, Any] = {}
    output_config: dict[str, Any] = {}


class MessagesRequest(CountRequest):
    """A conversation to answer."""

    model_config = needs("model", "messages", "max_tokens")

    max_tokens: int | None = Field(None, description="required; 1 or more")
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
