"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h2q.server.dialogue import able, card_of, conversation, seeds
from h2q.server.forced_call import with_call
from h2q.server.openai.chat_chunks import ChatChunks, Head, ending
from h2q.server.openai.given import (
    alternatives,
    answers,
    choice_of,
    format_of,
    sampled,
    thinking,
    tools_of,
)
from h2q.server.openai.shapes import ChatCompletionRequest
from h2q.server.openai.turns import turns
from h2q.server.openai.words import (
    FINGERPRINT,
    REASONS,
    call_of,
    logprobs_of,
    mark,
    reasons,
    usage_of,
)
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply
from h2q.server.several import gather_several, stream_several, total
from h2q.server.streaming import Answer, Question, stream

if TYPE_CHECKING:
    from h2q.core.asks import Ask
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request


async def chat(request: Request) -> Reply | None:
    """Answer a conversation, once or several times."""
    given = await request.read(ChatCompletionRequest)
    card = card_of(request, given.model)
    able(card, given.model, "completion", "chat")
    ask, forced = ask_of(card, given)
    top = alternatives(given.logprobs, given.top_logprobs)
    questions = [
        Question(given.model, replace(ask, sampling=seeds(ask.sampling, number)))
        for number in range(answers(given.n))
    ]
    if not given.stream:
        found = await gather_several(request, questions)
        told = [with_call(answer, forced) for answer in found]
        return json_reply(_document(given.model, told, top))
    usage = bool(given.stream_options and given.stream_options.include_usage)
    head = Head(given.model, usage)
    chunks = [ChatChunks(head, i, top, forced, len(questions) == 1) for i in range(len(questions))]
    if len(questions) == 1:
        await stream(request, questions[0], chunks[0])
    else:

        def end(taken: Any) -> bytes:
            return ending(head, one_prompt(taken, len(chunks)), sum(c.reasoning for c in chunks))

        await stream_several(request, questions, chunks, end)
    return None


def ask_of(card: ModelCard, given: ChatCompletionRequest) -> tuple[Ask, bool]:
    """The ask that a body means, and whether it must be answered with a call. Raises Refusal."""
    if given.functions:
        words = "functions are not supported; give them as tools"
        raise Refusal(400, words, param="functions")
    if given.modalities != ["text"]:
        raise Refusal(400, "only text is answered", param="modalities")
    choice = choice_of(card, given.model, tools_of(given.tools), given.tool_choice)
    most = given.max_tokens if given.max_completion_tokens is None else given.max_completion_tokens
    effort = given.reasoning_effort or given.reasoning.get("effort")
    ask = conversation(
        card,
        turns(given.messages),
        choice,
        sampled(card, given, most, alternatives(given.logprobs, given.top_logprobs)),
        think=thinking(card, given.model, effort),
        form=format_of(given.response_format, "response_format"),
    )
    return ask, choice.forced


def one_prompt(usage: Any, answers: int) -> Any:
    """Several answers read the same prompt, which counts once."""
    return replace(
        usage, prompt_tokens=usage.prompt_tokens // answers, cached=usage.cached // answers
    )


def _document(model: str, found: Sequence[Answer], top: int | None) -> dict[str, Any]:
    usage = one_prompt(total([answer.usage for answer in found]), len(found))
    reasoning = sum(reasons(event) for answer in found for event in answer.events)
    return {
        "id": mark("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
        "choices": [_choice(number, answer, top) for number, answer in enumerate(found)],
        "usage": usage_of(usage, reasoning),
    }


def _choice(number: int, answer: Answer, top: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning:
        message["reasoning"] = answer.reasoning
    if answer.calls:
        message["content"] = answer.content or None
        message["tool_calls"] = [call_of(part, i) for i, part in enumerate(answer.calls)]
    reason = "tool_calls" if answer.calls else REASONS.get(answer.finish, answer.finish)
    choice = {"index": number, "message": message, "finish_reason": reason, "logprobs": None}
    if top is not None:
        choice["logprobs"] = {"content": logprobs_of(answer.events, top), "refusal": None}
    return choice
