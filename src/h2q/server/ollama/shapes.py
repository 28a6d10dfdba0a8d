"""Bodies of Ollama's native API as they come in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from h2q.server.wire import Like, Wire, needs


class Function(Wire):
    """A function's name and the object of its arguments."""

    name: str
    arguments: dict[str, Any] = {}


class ToolCall(Wire):
    """A call that an assistant made earlier."""

    id: str = ""
    function: Function


class Message(Wire):
    """One turn of a conversation."""

    role: str
    content: str = ""
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[ToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


class Answered(Wire):
    """What asks for text have in common."""

    model: str = ""
    stream: bool = True
    format: Annotated[Any, Like(str | dict[str, Any])] = Field(
        None, description='"json", or a JSON Schema'
    )
    keep_alive: Annotated[Any, Like(str | float)] = Field(
        None, description="seconds, or a duration like 10m; negative: for ever; 0: unload"
    )
    options: dict[str, Any] = Field({}, description="how tokens are chosen")
    think: Annotated[Any, Like(bool | str)] = Field(
        None, description="true, false, low, medium, high or max"
    )
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = Field(0, description="0 to 20")
    tell_planes: bool = Field(False, description="say with every token how many planes took part")
    debug_render_only: bool = Field(False, alias="_debug_render_only")


class GenerateRequest(Answered):
    """A text to go on with."""

    model_config = needs("model")

    prompt: str = ""
    suffix: str = ""
    images: list[str] = []
    system: str | None = None
    template: str | None = None
    context: list[int] = []
    raw: bool = False


class ChatRequest(Answered):
    """A conversation to answer."""

    model_config = needs("model")

    messages: list[Message] = []
    tools: list[dict[str, Any]] = []


class EmbedRequest(Wire):
    """Texts to turn into vectors."""

    model_config = needs("model")

    model: str = ""
    input: Annotated[Any, Like(str | list[str])] = Field(
        None, description="a text, or a list of texts"
    )
    truncate: bool = True
    dimensions: int = 0
    keep_alive: Annotated[Any, Like(str | float)] = None
    options: dict[str, Any] = {}


class EmbeddingsRequest(Wire):
    """A text to turn into a vector."""

    model_config = needs("model")

    model: str = ""
    prompt: str = ""
    keep_alive: Annotated[Any, Like(str | float)] = None
    options: dict[str, Any] = {}


class NameRequest(Wire):
    """A model by its name; `name` is the older spelling."""

    model: str = ""
    name: str = ""


class ShowRequest(NameRequest):
    """A model to describe."""

    verbose: bool = False
    system: str = ""
    options: dict[str, Any] = {}


class CopyRequest(Wire):
    """A model and its second name."""

    model_config = needs("source", "destination")

    source: str = ""
    destination: str = ""


class WorkRequest(NameRequest):
    """A model to pull or to push."""

    insecure: bool = False
    stream: bool = True


class CreateMessage(Wire):
    """A turn that conversations with the model begin with."""

    role: str
    content: str = ""


class CreateRequest(NameRequest):
    """A model to make."""

    from_: str = Field("", alias="from")
    files: dict[str, str] = {}
    adapters: dict[str, str] = Field({}, description="refused")
    template: str | None = None
    system: str | None = None
    license: str | list[str] = []
    parameters: dict[str, Any] = {}
    messages: list[CreateMessage] = []
    quantize: str = ""
    remote_host: str = Field("", description="refused")
    stream: bool = True
