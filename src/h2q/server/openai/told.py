"""Bodies of OpenAI's API as they go out, for the documentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from h2q.server.wire import Told


class TokenProbability(Told):
    """A token and its log-probability in nats."""

    token: str
    logprob: float
    bytes: list[int] = Field(description="the token in UTF-8")


class TokenLogprob(TokenProbability):
    """A token of the answer, and those that could have stood there."""

    top_logprobs: list[TokenProbability]


class ChatLogprobs(Told):
    """Of all tokens that are not reasoning."""

    content: list[TokenLogprob]
    refusal: None


class CalledFunction(Told):
    """Which function, and with what."""

    name: str
    arguments: str = Field(description="the text of a JSON object")


class ChatToolCall(Told):
    """A call that the model wants made."""

    id: str
    index: int
    type: Literal["function"]
    function: CalledFunction


class ChatAnswer(Told):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    reasoning: str = ""
    tool_calls: list[ChatToolCall] = []


class ChatChoice(Told):
    """One answer."""

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None


class CachedTokens(Told):
    """Of the prompt, found in the cache."""

    cached_tokens: int


class ReasoningTokens(Told):
    """Of the answer, reasoning."""

    reasoning_tokens: int


class CompletionUsage(Told):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Completed(Told):
    """What answers have in common."""

    id: str
    created: int = Field(description="seconds since 1970")
    model: str
    system_fingerprint: str


class ChatCompletion(Completed):
    """A whole answer."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: CompletionUsage


class ChatDelta(Told):
    """What is added to the answer."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    reasoning: str = ""
    tool_calls: list[ChatToolCall] = []


class ChatChunkChoice(Told):
    """A piece of one answer."""

    index: int
    delta: ChatDelta
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(Completed):
    """A piece of an answer; `[DONE]` comes after the last."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = None


class TextLogprobs(Told):
    """Log-probabilities as completions had them before chat, and as chat has them."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    content: list[TokenLogprob]


class TextChoice(Told):
    """One answer, or a piece of it; the reason comes with the last."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: TextLogprobs | None


class TextCompletion(Completed):
    """A whole answer, or a piece of it."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: CompletionUsage | None = None


class EmbeddingItem(Told):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or float32 as base64")


class EmbeddingUsage(Told):
    """Counts of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Told):
    """Vectors in the order of their texts."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage


class ModelItem(Told):
    """An installed model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Told):
    """Installed models."""

    object: Literal["list"]
    data: list[ModelItem]


class ResponseDocument(Told):
    """A response; what was asked comes back in it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]] = Field(description="items: reasoning, message, function_call")
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None


class ResponseEvent(Told):
    """An event of a streamed response; its other fields depend on its type."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int


class OpenAIErrorDetail(Told):
    """What is wrong."""

    message: str
    type: str
    param: str | None = Field(description="the field it is about")
    code: str | None


class OpenAIError(Told):
    """Why a request is not fulfilled."""

    error: OpenAIErrorDetail
