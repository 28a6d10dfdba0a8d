"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from h2q.core.asks import Ask, Effort
from h2q.core.sampling_options import SamplingOptions
from h2q.server.anthropic.message_events import MessageEvents, counted, mark, stopped
from h2q.server.anthropic.shapes import CountRequest, MessagesRequest
from h2q.server.anthropic.turns import turns, wrong
from h2q.server.connected import while_connected
from h2q.server.dialogue import (
    EFFORTS,
    Choice,
    able,
    card_of,
    chosen,
    conversation,
    function_tool,
    sampling_of,
    schema_form,
)
from h2q.server.forced_call import with_call
from h2q.server.reply import Reply, json_reply
from h2q.server.streaming import Answer, Question, gather, stream

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request

CHOICES = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


async def messages(request: Request) -> Reply | None:
    """Answer a conversation."""
    given = await request.read(MessagesRequest)
    card = card_of(request, given.model)
    able(card, given.model, "completion", "chat")
    if given.max_tokens is None:
        wrong("max_tokens", "is required")
    if given.max_tokens < 1:
        wrong("max_tokens", "must be greater than 0")
    sampling = sampling_of(
        card,
        {
            "max_tokens": given.max_tokens,
            "temperature": given.temperature,
            "top_p": given.top_p,
            "top_k": given.top_k,
            "stop": given.stop_sequences or None,
        },
    )
    ask, forced = ask_of(card, given, sampling)
    question = Question(given.model, ask)
    if given.stream:
        await stream(request, question, MessageEvents(given.model, ask, forced))
        return None
    return json_reply(_document(given.model, with_call(await gather(request, question), forced)))


async def count_tokens(request: Request) -> Reply:
    """How many tokens a conversation has, in the model's own template."""
    given = await request.read(CountRequest)
    card = card_of(request, given.model)
    ask, _ = ask_of(card, given, SamplingOptions())

    async def work() -> int:
        with request.app.gate.enter(request.client):
            async with request.house.lease(given.model) as lease:
                request.model = card.name
                return await lease.worker.count(ask)

    return json_reply({"input_tokens": await while_connected(request, work())})


def ask_of(card: ModelCard, given: CountRequest, sampling: SamplingOptions) -> tuple[Ask, bool]:
    """The ask that a body means, and whether it must be answered with a call. Raises Refusal
    (400).
    """
    choice = _choice(card, given)
    form = None
    if isinstance(wanted := given.output_config.get("format"), dict):
        form = schema_form(wanted.get("schema"), "output_config.format.schema")
    ask = conversation(
        card,
        turns(given.messages, given.system),
        choice,
        sampling,
        think=_thinking(card, given),
        form=form,
    )
    return ask, choice.forced


def _choice(card: ModelCard, given: CountRequest) -> Choice:
    tools = [
        function_tool({**tool, "parameters": tool.get("input_schema")}, f"tools.{number}")
        for number, tool in enumerate(given.tools)
        if tool.get("type", "custom") == "custom"
    ]
    if tools:
        able(card, given.model, "tools", "tools")
    kind, name = given.tool_choice.get("type", "auto"), given.tool_choice.get("name", "")
    if not isinstance(kind, str) or kind not in CHOICES or not isinstance(name, str):
        wrong("tool_choice", "must be {type: auto, any or none}, or {type: tool, name}")
    return chosen(tools, CHOICES[kind], name)


def _thinking(card: ModelCard, given: CountRequest) -> bool | Effort | None:
    """A model that cannot think is not asked to: clients send this to every model."""
    if "thinking" not in card.capabilities:
        return None
    kind, hard = given.thinking.get("type"), given.output_config.get("effort")
    if kind not in ("enabled", "adaptive"):
        return False
    return EFFORTS.get(hard, True) if isinstance(hard, str) else True


def _document(model: str, answer: Answer) -> dict[str, Any]:
    content = list[dict[str, Any]]()
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if answer.content:
        content.append({"type": "text", "text": answer.content})
    for part in answer.calls:
        block = {"type": "tool_use", "id": mark("toolu_"), "name": part.name}
        content.append({**block, "input": msgspec.json.decode(part.text)})
    return {
        "id": mark("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stopped(answer.finish, answer.usage, bool(answer.calls)),
        "usage": counted(answer.usage),
    }
