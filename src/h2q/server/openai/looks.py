"""What the values look like that are read by hand, for the documentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class TextPart(BaseModel):
    """A piece of a content; parts are put one under the other."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class FunctionCalled(BaseModel):
    """Which function, and with what."""

    name: str
    arguments: str = Field("{}", description="the text of a JSON object")


class ToolCalled(BaseModel):
    """A call that the model made earlier."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCalled


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None
    reasoning: str | None = Field(None, description="what an assistant thought")
    tool_calls: list[ToolCalled] | None = None
    tool_call_id: str | None = Field(None, description="of the call that a tool's turn answers")
    name: str | None = None


class FunctionOffered(BaseModel):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field({}, description="a JSON Schema of its arguments")


class ToolOffered(BaseModel):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionOffered


class FlatToolOffered(FunctionOffered):
    """A tool that the model may call, as responses have it."""

    type: Literal["function"]


class FunctionNamed(BaseModel):
    """A function by its name."""

    name: str


class ToolChosen(BaseModel):
    """The one function to call."""

    type: Literal["function"]
    function: FunctionNamed


Choice = Literal["auto", "none", "required"]


class NamedSchema(BaseModel):
    """A JSON Schema."""

    name: str = ""
    json_schema: dict[str, Any] = Field(alias="schema")


class FormatWanted(BaseModel):
    """The form an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class MessageItem(BaseModel):
    """One turn of a conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class CallItem(BaseModel):
    """A call that the model made earlier."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str = "{}"


class ResultItem(BaseModel):
    """What a call brought."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[TextPart]


class SummaryText(BaseModel):
    """A piece of reasoning."""

    type: Literal["summary_text"]
    text: str


class ReasoningItem(BaseModel):
    """What the model thought earlier."""

    type: Literal["reasoning"]
    summary: list[SummaryText]


Item = MessageItem | CallItem | ResultItem | ReasoningItem
Prompt = str | list[str] | list[int] | list[list[int]]
