"""Bodies of Anthropic's API as they go out, for the documentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from h2q.server.wire import Told


class ThinkingBlock(Told):
    """What the model said to itself."""

    type: Literal["thinking"]
    thinking: str
    signature: str = Field(description="always empty")


class TextBlock(Told):
    """What the model says to the reader."""

    type: Literal["text"]
    text: str


class ToolUseBlock(Told):
    """A call that the model wants made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class MessageUsage(Told):
    """Counts of tokens; the prompt has those of the input and of the cache."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnthropicMessage(Told):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(Told):
    """An event of a streamed answer; its other fields depend on its type."""

    model_config = ConfigDict(extra="allow")

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]


class TokenCount(Told):
    """Tokens of a conversation."""

    input_tokens: int


class AnthropicErrorDetail(Told):
    """What is wrong."""

    type: str
    message: str


class AnthropicError(Told):
    """Why a request is not fulfilled."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str = Field(description="as in the server's log, after req_")
