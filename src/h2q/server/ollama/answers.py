"""POST /api/generate and POST /api/chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Ask, Call, Message
from h2q.core.errors import MissingModelError, TextError
from h2q.server.connected import while_connected
from h2q.server.ollama.asking import alternatives, check, form, thinking
from h2q.server.ollama.chunks import (
    REASONS,
    Chunks,
    body,
    control_reply,
    durations,
    logprob,
    told_apart,
)
from h2q.server.ollama.context import pack, unpack
from h2q.server.ollama.keep_alive import keep_alive
from h2q.server.ollama.names import card_of, missing, plain
from h2q.server.ollama.options import choose
from h2q.server.ollama.shapes import ChatRequest, GenerateRequest
from h2q.server.ollama.shapes import Message as Turn
from h2q.server.ollama.words import dumps, utc
from h2q.server.refusal import Refusal, refusal_of
from h2q.server.reply import Reply
from h2q.server.streaming import Question, gather, stream

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.ollama.shapes import Answered
    from h2q.server.request import Request

ROLES = ("system", "user", "assistant", "tool")
RAW = "raw mode does not support template, system, or context"


async def generate(request: Request) -> Reply | None:
    """Go on with a prompt; without one load or unload the model."""
    given = await request.read(GenerateRequest)
    card = card_of(request, given.model, missing(""))
    if given.raw and (given.template or given.system or given.context):
        raise Refusal(400, RAW)
    if not given.prompt:
        return await _load(request, given, chat=False)
    check(card, given.model, given, given.images, "generate")
    if given.suffix and "insert" not in card.capabilities:
        raise Refusal(400, f"{given.model} does not support insert")
    earlier = unpack(given.context) if given.context else ()
    turns = (*earlier, Message("user", given.prompt))
    common = _common(card, given, split=not given.raw)
    if earlier:
        ask = Ask(messages=turns, system=_system(card, given), template=given.template, **common)
    else:
        ask = Ask(
            prompt=given.prompt,
            suffix=given.suffix,
            raw=given.raw,
            system=None if given.raw else _system(card, given),
            template=given.template,
            **common,
        )
    chunks = _Generated(request, given, None if given.raw else turns)
    return await _answer(request, given, ask, chunks)


async def chat(request: Request) -> Reply | None:
    """Answer a conversation; without one load or unload the model."""
    given = await request.read(ChatRequest)
    card = card_of(request, given.model)
    if not given.messages:
        return await _load(request, given, chat=True)
    images = [image for turn in given.messages for image in turn.images]
    check(card, given.model, given, images, "chat")
    if given.tools and "tools" not in card.capabilities:
        raise Refusal(400, f"{given.model} does not support tools")
    messages = _messages(given.messages)
    begins = messages[0].role == "system"
    ask = Ask(
        messages=messages if begins else (*card.messages, *messages),
        system=None if begins else card.system or None,
        tools=_tools(given.tools),
        **_common(card, given, split=True),
    )
    top = given.top_logprobs if given.logprobs else None
    chunks = Chunks(given.model, request.arrived, True, True, top, given.tell_planes)
    return await _answer(request, given, ask, chunks)


def _common(card: ModelCard, given: Answered, split: bool) -> dict[str, Any]:
    chosen = choose(card, given.options, alternatives(given))
    return {
        "think": thinking(card, given.model, given.think),
        "sampling": chosen.sampling,
        "form": form(given.format),
        "context": chosen.context,
        "keep": chosen.keep,
        "truncate": given.truncate,
        "shift": given.shift,
        "split": split,
    }


def _system(card: ModelCard, given: GenerateRequest) -> str | None:
    return (card.system or None) if given.system is None else given.system


class _Generated(Chunks):
    """Chunks of generate: the last has the context to go on from."""

    def __init__(
        self, request: Request, given: GenerateRequest, turns: Sequence[Message] | None
    ) -> None:
        top = given.top_logprobs if given.logprobs else None
        super().__init__(given.model, request.arrived, False, not given.raw, top, given.tell_planes)
        self._turns = turns

    def context(self, said: str) -> dict[str, Any]:
        packed = pack([*self._turns, Message("assistant", said)]) if self._turns else None
        return {"context": packed} if packed else {}


async def _answer(request: Request, given: Answered, ask: Ask, chunks: Chunks) -> Reply | None:
    question = Question(plain(given.model), ask, keep_alive(given.keep_alive))
    try:
        if given.stream:
            await stream(request, question, chunks)
            return None
        answer = await gather(request, question)
    except MissingModelError:
        raise missing(given.model) from None
    except TextError as error:
        if ask.template is None:
            raise
        raise Refusal(500, refusal_of(error).message) from None  # as Ollama has it
    in_chat = isinstance(given, ChatRequest)
    _, _, calls = told_apart(answer.calls, 0)
    document = {
        "model": given.model,
        "created_at": utc(),
        **body(in_chat, answer.content, answer.reasoning, calls),
        "done": True,
        "done_reason": REASONS.get(answer.finish, answer.finish),
        **chunks.context(answer.content),
        **durations(request.arrived, answer.load_seconds, answer.usage),
    }
    if given.logprobs:
        events = [event for event in answer.events if event.token >= 0]
        document["logprobs"] = [logprob(event, given.top_logprobs) for event in events]
    if given.tell_planes and answer.events:
        document["planes"] = answer.events[-1].planes
    return Reply(dumps(document))


async def _load(request: Request, given: Answered, chat: bool) -> Reply:
    """An empty request wakes the model, or lets it go when it should not stay."""
    seconds, name = keep_alive(given.keep_alive), plain(given.model)
    if seconds == 0:
        await request.house.unload(name)
        return Reply(control_reply(given.model, chat, "unload"))

    async def wake() -> None:
        with request.app.gate.enter(request.client):
            async with request.house.lease(name, seconds):
                pass

    await while_connected(request, wake())
    return Reply(control_reply(given.model, chat, "load", request.arrived))


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    found = list[Message]()
    names: dict[str, str] = {}
    for turn in turns:
        role = turn.role.lower()
        if role not in ROLES:
            raise Refusal(
                400, f"invalid role: {turn.role[:80]}, must be one of [{' '.join(ROLES)}]"
            )
        calls = tuple(
            Call(call.function.name, json.dumps(call.function.arguments), call.id)
            for call in turn.tool_calls
        )
        names.update({call.id: call.name for call in calls if call.id})
        name = turn.tool_name or names.get(turn.tool_call_id, "")
        found.append(
            Message(role, turn.content, turn.thinking, calls, name, turn.tool_call_id)  # type: ignore[arg-type]
        )
    return tuple(found)


def _tools(tools: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refusal(400, "a tool is {type: function, function: {name, parameters}}")
    return tuple(tools)
