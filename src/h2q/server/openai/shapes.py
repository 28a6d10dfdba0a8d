"""Bodies of OpenAI's API as they come in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from h2q.server.openai import looks
from h2q.server.wire import Like, Wire, needs


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
    stop: Annotated[Any, Like(str | list[str])] = Field(
        None, description="a text that ends the answer, or a list of them"
    )
    logit_bias: dict[str, Any] = Field({}, description="token id to a number from -100 to 100")
    n: int = Field(1, description="answers, 1 to 16")


class ChatCompletionRequest(Sampled):
    """A conversation to answer."""

    model_config = needs("model", "messages")

    messages: Annotated[list[dict[str, Any]], Like(list[looks.ChatMessage])] = []
    max_completion_tokens: int | None = None
    tools: Annotated[list[dict[str, Any]], Like(list[looks.ToolOffered])] = []
    tool_choice: Annotated[Any, Like(looks.Choice | looks.ToolChosen)] = Field(
        None, description="auto, none, required, or a named function"
    )
    functions: list[Any] = Field([], description="refused: use tools")
    response_format: Annotated[dict[str, Any], Like(looks.FormatWanted)] = Field(
        {}, description="text, json_object or json_schema"
    )
    reasoning: dict[str, Any] = {}
    reasoning_effort: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, description="0 to 20")
    modalities: list[str] = ["text"]


class CompletionRequest(Sampled):
    """A text to go on with."""

    model_config = needs("model", "prompt")

    prompt: Annotated[Any, Like(looks.Prompt)] = Field(
        None, description="a text, token ids, or a list of texts or of ids"
    )
    suffix: str = ""
    logprobs: int | None = Field(None, description="alternatives to report, 0 to 20")
    echo: bool = False
    best_of: int | None = None
    raw: bool = Field(False, description="not OpenAI's: leave out the chat template")


class EmbeddingRequest(Wire):
    """Texts to turn into vectors."""

    model_config = needs("model", "input")

    model: str = ""
    input: Annotated[Any, Like(str | list[str])] = Field(
        None, description="a text, or a list of texts"
    )
    dimensions: int | None = None
    encoding_format: str = Field("float", description="float or base64")


class ResponseRequest(Wire):
    """What a response is to answer, and how."""

    model_config = needs("model", "input")

    model: str = ""
    input: Annotated[Any, Like(str | list[looks.Item])] = Field(
        None, description="a text, or a list of items"
    )
    instructions: str = ""
    stream: bool = False
    tools: Annotated[list[dict[str, Any]], Like(list[looks.FlatToolOffered])] = []
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
