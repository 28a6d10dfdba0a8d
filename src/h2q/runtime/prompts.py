"""From an ask to the tokens a model goes on from, and what its answer is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Ask, Message
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec
from h2q.text.dialects import PLAIN, Dialect, dialect_of, opens_reasoning

if TYPE_CHECKING:  # loads jinja2
    from h2q.text.template import ChatTemplate
    from h2q.text.tokenizer import Tokenizer

KEPT_TEMPLATES = 8


@dataclass(frozen=True)
class Prompt:
    """Tokens to go on from. `dialect`: how the answer tells reasoning and calls from content;
    `thinks`: the prompt has opened reasoning.
    """

    tokens: tuple[int, ...]
    dialect: Dialect
    thinks: bool = False


class Prompter:
    """Makes prompts for one model. template: of the crystal, asked for once."""

    def __init__(
        self, tokenizer: Tokenizer, spec: ModelSpec, template: Callable[[], str | None]
    ) -> None:
        self._tokenizer, self._spec, self._template = tokenizer, spec, template
        self._own: str | None = None
        self._asked = False
        self._made: dict[str, ChatTemplate] = {}

    def prompt(self, ask: Ask, limit: int | None = None, room: int = 1) -> Prompt:
        """limit: tokens the context holds; the oldest of what is longer are dropped where the ask
        allows it, so that `room` tokens can follow. None: whole, however long.

        Raises UsageError for what does not fit or is empty, TextError for a template that fails.
        """
        if ask.messages is not None or (ask.prompt is not None and not (ask.raw or ask.suffix)):
            return self._chat(ask, limit, room)
        if ask.tokens is not None:
            tokens = list(ask.tokens)
        elif ask.suffix:
            from h2q.text.infill import fim_prompt

            tokens = fim_prompt(self._tokenizer, ask.prompt or "", ask.suffix)
        else:
            tokens = self._tokenizer.encode(ask.prompt or "")
        dialect = self._dialect(ask, "")
        thinks = ask.prompt is not None and opens_reasoning(ask.prompt, dialect)
        return Prompt(self._fitting(tokens, ask, limit, room), dialect, thinks and not ask.suffix)

    def _chat(self, ask: Ask, limit: int | None, room: int) -> Prompt:
        messages = conversation(ask)
        text = ask.template if ask.template is not None else self._own_template()
        dialect = self._dialect(ask, text or "")
        rendered, tokens = self._rendered(ask, messages, text)
        if limit is not None and len(tokens) > limit and ask.truncate:
            rendered, tokens = self._shortened(ask, messages, text, limit + 1 - room)
        return Prompt(
            self._fitting(tokens, ask, limit, room), dialect, opens_reasoning(rendered, dialect)
        )

    def _shortened(
        self, ask: Ask, messages: Sequence[Message], text: str | None, limit: int
    ) -> tuple[str, list[int]]:
        """Without as many of the oldest turns as it takes; the system's and the last one stay,
        longer than `limit` or not.
        """
        begin = sum(message.role == "system" for message in messages[:1])
        few, many = 1, max(0, len(messages) - begin - 1)  # turns to drop, by halving
        best = self._rendered(ask, [*messages[:begin], *messages[begin + many :]], text)
        while few <= many:
            count = (few + many) // 2
            found = self._rendered(ask, [*messages[:begin], *messages[begin + count :]], text)
            if len(found[1]) <= limit:
                best, many = found, count - 1
            else:
                few = count + 1
        return best

    def _rendered(
        self, ask: Ask, messages: Sequence[Message], text: str | None
    ) -> tuple[str, list[int]]:
        if text is None:
            rendered = plain_conversation(messages)
            return rendered, self._tokenizer.encode(rendered)
        template = self._made.get(text)
        if template is None:
            while len(self._made) >= KEPT_TEMPLATES:
                self._made.pop(next(iter(self._made)))
            template = self._made[text] = self._compiled(text)
        names = self._names(ask)
        tools = list(ask.tools) or None
        last = messages[-1] if messages else None
        rows = [_row(message) for message in messages]
        going_on = last is not None and last.role == "assistant" and not last.calls
        if last is None or not going_on:
            rendered = template.render(rows, tools, **names)
        elif not last.content.strip():
            rendered = template.render(rows[:-1], tools, **names)
        else:
            rendered = _continued(template, rows, tools, names)
        return rendered, self._tokenizer.encode(rendered, special=False)

    def _compiled(self, text: str) -> ChatTemplate:
        """A template of Jinja, or of Go: Ollama puts the first token before what those write."""
        from h2q.text.go_template import go_to_jinja, is_go
        from h2q.text.template import ChatTemplate

        if is_go(text):
            first = "".join(map(self._tokenizer.token_name, self._tokenizer.first_ids()))
            text = go_to_jinja(text, first)
        return ChatTemplate(text)

    def _names(self, ask: Ask) -> dict[str, Any]:
        """What templates of the common families ask for by name."""
        spec, name = self._spec, self._tokenizer.token_name
        ends = spec.eos_token_ids
        names: dict[str, Any] = {
            "bos_token": "" if spec.bos_token_id is None else name(spec.bos_token_id),
            "eos_token": name(ends[0]) if ends else "",
        }
        if ask.think is not None:
            names["enable_thinking"] = names["thinking"] = bool(ask.think)  # Qwen; DeepSeek
        if isinstance(ask.think, str):
            names["reasoning_effort"] = "high" if ask.think == "max" else ask.think  # gpt-oss
        return names

    def _own_template(self) -> str | None:
        if not self._asked:
            self._own, self._asked = self._template(), True
        return self._own

    def _dialect(self, ask: Ask, template: str) -> Dialect:
        if not ask.split:
            return PLAIN
        found = dialect_of(template, self._tokenizer.added_names())
        if ask.tools:
            return found
        return replace(found, call_open="", call_close="", bare=False)

    def _fitting(
        self, tokens: list[int], ask: Ask, limit: int | None, room: int
    ) -> tuple[int, ...]:
        if not tokens and self._spec.bos_token_id is not None:
            tokens = [self._spec.bos_token_id]
        if not tokens:
            raise UsageError("The prompt is empty and the model has no token to begin with.")
        if limit is None or len(tokens) <= limit:
            return tuple(tokens)
        if not ask.truncate:
            raise UsageError(
                f"{len(tokens):,} tokens do not fit the context of {limit:,}.",
                where="prompt",
                fix="Shorten the prompt, or let its oldest part be dropped.",
            )
        left = limit + 1 - room
        kept = min(max(ask.keep, 0), left - 1)
        return (*tokens[:kept], *tokens[len(tokens) - (left - kept) :])


def conversation(ask: Ask) -> list[Message]:
    """The turns of an ask, the system's first where it has one."""
    messages = list(ask.messages or ())
    if ask.prompt is not None:
        messages = [Message("user", ask.prompt)]
    if ask.system and not (messages and messages[0].role == "system"):
        messages.insert(0, Message("system", ask.system))
    return messages


def plain_conversation(messages: Sequence[Message]) -> str:
    """Turns as text for a model that was trained on none. One turn alone stands as it is."""
    spoken = [message for message in messages if message.role != "system"]
    parts = [message.content for message in messages if message.role == "system"]
    if len(spoken) <= 1:
        return "\n\n".join([*parts, *(message.content for message in spoken)])
    for message in spoken:
        parts.append(f"{message.role.capitalize()}: {message.content}")
    if spoken[-1].role != "assistant":
        parts.append("Assistant:")
    return "\n\n".join(parts)


def _continued(
    template: ChatTemplate,
    rows: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    names: dict[str, Any],
) -> str:
    """A conversation up to the end of its last turn's words, the end of that turn left out."""
    content = str(rows[-1]["content"]).rstrip()
    whole = template.render(rows, tools, add_generation_prompt=False, **names)
    for wanted in (content, content.strip()):
        at = whole.rfind(wanted)
        if at >= 0:
            return whole[: at + len(wanted)]
    return template.render(rows[:-1], tools, **names) + content


def _row(message: Message) -> dict[str, Any]:
    """A turn as the templates of the common families read it."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        row["reasoning_content"] = row["thinking"] = message.reasoning
    if message.name:
        row["name"] = message.name
    if message.call_id:
        row["tool_call_id"] = message.call_id
    if message.calls:
        row["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.calls
        ]
    return row


def _arguments(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text
