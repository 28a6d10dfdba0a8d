"""What a person asks a model for, in one shape for every dialect: text to go on with or a
conversation to answer, and how.

A dialect makes asks, a worker answers them with token events. All of it is plain data that
travels between processes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from h2q.core.errors import UsageError
from h2q.core.sampling_options import SamplingOptions

Role = Literal["system", "user", "assistant", "tool"]
Effort = Literal["low", "medium", "high", "max"]
FORMS = ("json", "schema", "regex", "lark")


@dataclass(frozen=True)
class Call:
    """A function the model wants called; `arguments` is the text of a JSON object."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `reasoning`: what an assistant thought before it said `content`.
    `name`, `call_id`: of the call that a tool's message answers.
    """

    role: Role
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    name: str = ""
    call_id: str = ""


@dataclass(frozen=True)
class Form:
    """The form an answer is held to: any JSON object, a JSON Schema (its text), a regular
    expression or a Lark grammar. Raises UsageError for another kind.
    """

    kind: str
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FORMS:
            raise UsageError(f"A form is one of {', '.join(FORMS)}.", where="format")


@dataclass(frozen=True)
class Ask:
    """Exactly one of `prompt`, `messages` and `tokens` says what to go on from.

    prompt: a text. It is put into the model's chat template as a user's turn unless `raw`.
    messages: a conversation, for the chat template; a last assistant's turn is continued.
    tokens: ids, as they are.
    suffix: with a prompt, fill in what belongs between the two.
    system: a turn before all others, unless the conversation begins with one.
    template: a chat template, Jinja or Go's, instead of the model's.
    tools: functions the model may call, as OpenAI describes them.
    think: whether the model reasons first, or how hard; None leaves it to the model.
    sampling: how tokens are chosen, stop texts, most tokens, alternatives to report.
    form: what the answer must look like; reasoning before it is free.
    planes: coded planes that take part, for a text that repeats; None: as many as there are.
    ring: positions kept in constant memory; 0: the whole context.
    context: most positions of prompt and answer, no more than the model's own; None: its own.
    keep: tokens of the beginning that stay when the oldest are dropped.
    truncate: drop the oldest of a prompt that is too long, else refuse it.
    shift: drop the oldest when the context is full, else end ("context").
    split: tell reasoning and calls from content; else all is content.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    tokens: tuple[int, ...] | None = None
    suffix: str = ""
    raw: bool = False
    system: str | None = None
    template: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | Effort | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    form: Form | None = None
    planes: int | None = None
    ring: int = 0
    context: int | None = None
    keep: int = 0
    truncate: bool = True
    shift: bool = False
    split: bool = True

    def __post_init__(self) -> None:
        given = sum(part is not None for part in (self.prompt, self.messages, self.tokens))
        if given != 1:
            raise UsageError("An ask has a prompt, messages, or tokens: one of them.")
        if self.suffix and self.prompt is None:
            raise UsageError("A suffix needs a prompt.", where="suffix")


@dataclass(frozen=True)
class EmbedAsk:
    """Texts to be turned into vectors. truncate: cut a text that is too long, else refuse it.
    normalize: to length 1.
    """

    texts: tuple[str, ...]
    truncate: bool = True
    normalize: bool = True
    context: int | None = None


@dataclass(frozen=True)
class Embeddings:
    """One float32 vector per text, little endian, row after row; and the tokens that were read."""

    vectors: bytes
    width: int
    tokens: int
