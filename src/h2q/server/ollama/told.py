"""Bodies of Ollama's native API as they go out, for the documentation.

Durations are nanoseconds.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from h2q.server.wire import Told


class TokenLikelihood(Told):
    """A token and its log-probability in nats."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLikelihoods(TokenLikelihood):
    """A token of the answer, and those that could have stood there."""

    top_logprobs: list[TokenLikelihood] = []


class CallOfFunction(Told):
    """Which function, and with what."""

    index: int
    name: str
    arguments: dict[str, Any]


class CallOfTool(Told):
    """A call that the model wants made."""

    id: str
    function: CallOfFunction


class Timed(Told):
    """What answers have in common; counts and durations come with the last piece."""

    model: str
    created_at: str
    done: bool
    done_reason: str = Field("", description="stop, length, load or unload")
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    logprobs: list[TokenLikelihoods] = []
    planes: int | None = Field(None, description="that took part, with `tell_planes`")


class GenerateAnswer(Timed):
    """An answer, or a piece of it."""

    response: str
    thinking: str = ""
    tool_calls: list[CallOfTool] = []
    context: list[int] = Field([], description="to go on from")


class AnswerMessage(Told):
    """What the model says."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[CallOfTool] = []


class ChatReply(Timed):
    """An answer, or a piece of it."""

    message: AnswerMessage


class EmbedAnswer(Told):
    """Vectors in the order of their texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsAnswer(Told):
    """One vector."""

    embedding: list[float]


class ModelDetails(Told):
    """What a model is made of."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int


class InstalledModel(Told):
    """An installed model."""

    name: str
    model: str
    modified_at: str
    size: int = Field(description="bytes")
    digest: str
    details: ModelDetails
    capabilities: list[str]


class InstalledModels(Told):
    """Installed models, the newest first."""

    models: list[InstalledModel]


class ModelInMemory(Told):
    """A model in memory."""

    name: str
    model: str
    size: int = Field(description="bytes resident")
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class ModelsInMemory(Told):
    """Models in memory."""

    models: list[ModelInMemory]


class ShowAnswer(Told):
    """All that is known of a model; what is empty is left out."""

    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: ModelDetails
    messages: list[dict[str, str]] = []
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class WorkStep(Told):
    """A step of pulling or creating a model; the last is `success`."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class VersionAnswer(Told):
    """Whose API this is, and who speaks it."""

    version: str
    h2q: str


class Cloud(Told):
    """There is none."""

    disabled: bool
    source: str


class StatusAnswer(Told):
    """Where models run."""

    cloud: Cloud


class OllamaError(Told):
    """Why a request is not fulfilled."""

    error: str
