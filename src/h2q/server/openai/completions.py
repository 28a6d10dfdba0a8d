"""POST /v1/completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Ask
from h2q.core.sampling_options import MAX_COUNT
from h2q.server.dialogue import able, card_of, seeds
from h2q.server.openai.completion_chunks import CompletionChunks, ending, legacy_logprobs
from h2q.server.openai.given import MAX_ANSWERS, alternatives, answers, sampled
from h2q.server.openai.shapes import CompletionRequest
from h2q.server.openai.turns import wrong
from h2q.server.openai.words import FINGERPRINT, REASONS, mark, reasons, usage_of
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply
from h2q.server.several import gather_several, stream_several, total
from h2q.server.streaming import Answer, Question, stream

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.core.events import Usage
    from h2q.core.sampling_options import SamplingOptions
    from h2q.server.request import Request

Prompt = str | tuple[int, ...]


async def completions(request: Request) -> Reply | None:
    """Go on with one text or several, each once or several times."""
    given = await request.read(CompletionRequest)
    card = card_of(request, given.model)
    able(card, given.model, "completion", "generate")
    _check(card, given)
    top = alternatives(given.logprobs is not None, given.logprobs)
    sampling = sampled(card, given, given.max_tokens, top)
    prompts, each = prompts_of(given.prompt), answers(given.n)
    if len(prompts) * each > MAX_ANSWERS:
        raise Refusal(400, f"at most {MAX_ANSWERS} answers to one request", param="prompt")
    questions = [
        Question(given.model, _ask(card, given, prompt, seeds(sampling, number)))
        for prompt in prompts
        for number in range(each)
    ]
    if not given.stream:
        found = await gather_several(request, questions)
        return json_reply(_document(given.model, found, each, top))
    usage = bool(given.stream_options and given.stream_options.include_usage)
    fields = _fields(given.model)
    alone = len(questions) == 1
    chunks = [
        CompletionChunks(fields, i, top, question.ask.split, usage, alone)
        for i, question in enumerate(questions)
    ]
    if alone:
        await stream(request, questions[0], chunks[0])
    else:

        def end(taken: Usage) -> bytes:
            reasoning = sum(chunk.reasoning for chunk in chunks)
            return ending(fields, _once(taken, each), reasoning, usage)

        await stream_several(request, questions, chunks, end)
    return None


def _check(card: ModelCard, given: CompletionRequest) -> None:
    if given.echo:
        raise Refusal(400, "echo is not supported: prompts have no log-probabilities", param="echo")
    if given.best_of is not None and given.best_of != given.n:
        raise Refusal(400, "best_of is not supported; ask for n answers", param="best_of")
    if given.suffix and "insert" not in card.capabilities:
        raise Refusal(400, f"{given.model} does not support insert", param="suffix")


def prompts_of(value: Any) -> list[Prompt]:
    """Texts or token ids, one or many. Raises Refusal (400)."""
    if isinstance(value, str):
        return [value]
    if value is None:
        wrong("prompt", "is required")
    if not isinstance(value, list) or not value:
        wrong("prompt", "must be a text, a list of token ids, or a list of these")
    if all(_is_token(item) for item in value):
        return [tuple(value)]
    if len(value) > MAX_ANSWERS:
        wrong("prompt", f"has more than {MAX_ANSWERS} texts")
    return [_prompt(item, f"prompt[{i}]") for i, item in enumerate(value)]


def _prompt(item: Any, place: str) -> Prompt:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(_is_token(token) for token in item):
        return tuple(item)
    return wrong(place, "must be a text or a list of token ids")


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def _ask(
    card: ModelCard, given: CompletionRequest, prompt: Prompt, sampling: SamplingOptions
) -> Ask:
    if isinstance(prompt, tuple):
        if given.suffix:
            wrong("suffix", "needs a prompt that is a text")
        return Ask(tokens=prompt, sampling=sampling, split=False)
    return Ask(
        prompt=prompt,
        suffix=given.suffix,
        raw=given.raw,
        system=None if given.raw else card.system or None,
        sampling=sampling,
        split=not given.raw,
    )


def _fields(model: str) -> dict[str, Any]:
    return {
        "id": mark("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def _once(usage: Usage, each: int) -> Usage:
    """A prompt that is answered several times counts once."""
    return replace(usage, prompt_tokens=usage.prompt_tokens // each, cached=usage.cached // each)


def _document(model: str, found: Sequence[Answer], each: int, top: int | None) -> dict[str, Any]:
    usage = _once(total([answer.usage for answer in found]), each)
    choices = [
        {
            "index": number,
            "text": answer.content,
            "finish_reason": REASONS.get(answer.finish, answer.finish),
            "logprobs": None if top is None else legacy_logprobs(answer.events, top),
        }
        for number, answer in enumerate(found)
    ]
    reasoning = sum(reasons(event) for answer in found for event in answer.events)
    return {**_fields(model), "choices": choices, "usage": usage_of(usage, reasoning)}
