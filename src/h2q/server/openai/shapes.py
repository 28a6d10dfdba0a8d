"""Bodies of OpenAI's API as they come in."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from h2q.server.wire import Wire


class StreamOptions(Wire):
    """What a stream tells besides the answer."""

    include_usage: bool = Field(False, description="a last chunk with the counts of tokens")


class Sampled(Wire):
    """What asks for text have in common."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, description="not OpenAI's: the most likely tokens to keep")
    min_p: float | None = Field(None, description="not OpenAI's: least share of the likeliest")
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: Any = Field(None, description="a text that ends the answer, or a list of them")
    logit_bias: dict[str, Any] = Field({}, description="token id to a number from -100 to 100")
    n: int = Field(1, description="answers, 1 to 16")


class ChatRequest(Sampled):
    """A conversation to answer."""

    messages: list[dict[str, Any]] = []
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: Any = Field(None, description="auto, none, required, or a named function")
    functions: list[Any] = Field([], description="refused: use tools")
    response_format: dict[str, Any] = Field({}, description="text, json_object or json_schema")
    reasoning: dict[str, Any] = {}
    reasoning_effort: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, description="0 to 20")
    modalities: list[str] = ["text"]


class CompletionRequest(Sampled):
    """A text to go on with."""

    prompt: Any = Field(None, description="a text, token ids, or a list of texts or of ids")
    suffix: str = ""
    logprobs: int | None = Field(None, description="alternatives to report, 0 to 20")
    echo: bool = False
    best_of: int | None = None
    raw: bool = Field(False, description="not OpenAI's: leave out the chat template")


class EmbeddingRequest(Wire):
    """Texts to turn into vectors."""

    model: str = ""
    input: Any = Field(None, description="a text, or a list of texts")
    dimensions: int | None = None
    encoding_format: str = Field("float", description="float or base64")


class ResponseRequest(Wire):
    """What a response is to answer, and how."""

    model: str = ""
    input: Any = Field(None, description="a text, or a list of items")
    instructions: str = ""
    stream: bool = False
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    reasoning: dict[str, Any] = {}
    text: dict[str, Any] = {}
    previous_response_id: str = Field("", description="refused: nothing is kept here")
    conversation: Any = Field(None, description="refused: nothing is kept here")
    background: bool = False
    top_logprobs: int | None = None
    include: list[str] = []
    metadata: dict[str, Any] = {}
    parallel_tool_calls: bool = True
