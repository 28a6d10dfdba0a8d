"""What is known of an installed or a running model without waking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h2q.core.asks import Message


@dataclass(frozen=True)
class ModelCard:
    """An installed model. `name` as people write it (`llama3.2:latest`), `digest` sha256 in hex of
    what it consists of, `size` in bytes, `modified` in seconds since 1970.

    `family` as configurations call it (`llama`), `parameters` the count of weights, `bits` the
    words for the planes of its weights (`2+2 bits`). `capabilities`: of completion, tools, insert,
    embedding, thinking. `options`: sampling options the model asks for, named as in a Modelfile.
    `source`: where it was grown from and in which precision.
    """

    name: str
    digest: str
    size: int
    modified: float
    family: str
    parameters: int
    bits: str
    context_length: int
    embedding_length: int
    capabilities: tuple[str, ...] = ("completion",)
    template: str = ""
    system: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    messages: tuple[Message, ...] = ()
    license: str = ""
    source: str = ""


@dataclass(frozen=True)
class RunningModel:
    """A model in memory. `resident`, `budget`: bytes; `planes` of `all_planes` take part;
    `expires`: seconds since 1970 when it will be let go, None for never; `running` and `waiting`
    requests.
    """

    card: ModelCard
    resident: int
    budget: int
    planes: int
    all_planes: int
    context_length: int
    expires: float | None
    running: int = 0
    waiting: int = 0
