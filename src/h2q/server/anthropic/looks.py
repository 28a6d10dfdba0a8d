"""What the values look like that are read by hand, for the documentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class TextGiven(BaseModel):
    """A text."""

    type: Literal["text"]
    text: str


class ThinkingGiven(BaseModel):
    """What the assistant thought."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class ToolUseGiven(BaseModel):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any] = {}


class ToolResultGiven(BaseModel):
    """What a call brought."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextGiven] = ""
    is_error: bool = False


class MessageGiven(BaseModel):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[TextGiven | ThinkingGiven | ToolUseGiven | ToolResultGiven]


class ToolGiven(BaseModel):
    """A function that the model may call; `input_schema` is a JSON Schema."""

    name: str
    description: str = ""
    input_schema: dict[str, Any]


class ToolChoiceGiven(BaseModel):
    """Whether the model must call a function, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
