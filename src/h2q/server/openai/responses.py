"""POST /v1/responses. Nothing is kept between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2q.server.dialogue import able, card_of, conversation, sampling_of
from h2q.server.forced_call import with_call
from h2q.server.openai.given import alternatives, choice_of, format_of, thinking
from h2q.server.openai.response_document import (
    Document,
    Response,
    call_item,
    message_item,
    reasoning_item,
    status_of,
    usage_of,
)
from h2q.server.openai.response_events import ResponseEvents
from h2q.server.openai.response_input import tools_of, turns_of
from h2q.server.openai.shapes import ResponseRequest
from h2q.server.openai.turns import wrong
from h2q.server.openai.words import logprobs_of, mark, reasons
from h2q.server.reply import Reply, json_reply
from h2q.server.streaming import Answer, Question, gather, stream

if TYPE_CHECKING:
    from h2q.core.asks import Ask
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request

LOGPROBS = "message.output_text.logprobs"
STATELESS = "is not supported: nothing is kept here; send the whole conversation as input"


async def responses(request: Request) -> Reply | None:
    """Answer items with items."""
    given = await request.read(ResponseRequest)
    card = card_of(request, given.model)
    able(card, given.model, "completion", "chat")
    ask, forced, top = ask_of(card, given)
    question = Question(given.model, ask)
    sampling = ask.sampling
    response = Response(given, {"temperature": sampling.temperature, "top_p": sampling.top_p})
    if given.stream:
        await stream(request, question, ResponseEvents(response, forced, top))
        return None
    answer = with_call(await gather(request, question), forced)
    usage = usage_of(answer.usage, sum(reasons(event) for event in answer.events))
    return json_reply(response.document(status_of(answer.finish), _items(answer, top), usage))


def ask_of(card: ModelCard, given: ResponseRequest) -> tuple[Ask, bool, int | None]:
    """The ask that a body means, whether it must be answered with a call, and how many
    alternatives to tell. Raises Refusal (400).
    """
    if given.previous_response_id:
        wrong("previous_response_id", STATELESS)
    if given.conversation is not None:
        wrong("conversation", STATELESS)
    if given.background:
        wrong("background", "is not supported")
    wanted = LOGPROBS in given.include or bool(given.top_logprobs)
    top = alternatives(wanted, given.top_logprobs)
    wish = given.tool_choice
    choice = choice_of(card, given.model, tools_of(given.tools), wish)
    sampling = sampling_of(
        card,
        {
            "temperature": given.temperature,
            "top_p": given.top_p,
            "max_tokens": given.max_output_tokens,
            "top_logprobs": None if top is None else max(1, top),
        },
    )
    form: Any = given.text.get("format") or {}
    if not isinstance(form, dict):
        wrong("text.format", "must be an object")
    ask = conversation(
        card,
        turns_of(given.input, given.instructions),
        choice,
        sampling,
        think=thinking(card, given.model, given.reasoning.get("effort"), "reasoning.effort"),
        form=format_of(form, "text.format"),
    )
    return ask, choice.forced, top


def _items(answer: Answer, top: int | None) -> list[Document]:
    status = status_of(answer.finish)
    found = list[Document]()
    if answer.reasoning:
        found.append(reasoning_item(mark("rs_"), answer.reasoning))
    if answer.content or not answer.calls:
        logprobs = [] if top is None else logprobs_of(answer.events, top)
        found.append(message_item(mark("msg_"), status, answer.content, logprobs))
    for part in answer.calls:
        found.append(call_item(mark("fc_"), mark("call_"), "completed", part, part.text))
    return found
