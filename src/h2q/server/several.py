"""Several answers to one request: whole, or their pieces on one stream in the order they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from h2q.core.events import TokenEvent, Usage
from h2q.server.connected import Pen, while_connected
from h2q.server.refusal import Gone, refusal_of
from h2q.server.streaming import Answer, Formatter, Question, answering, collect

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.request import Request

Result = TypeVar("Result")
AHEAD = 64  # events that answers may be ahead of a slow client
Told = tuple[int, "Lease", TokenEvent]


async def gather_several(request: Request, questions: Sequence[Question]) -> list[Answer]:
    """All answers, in the order of their questions. Raises what one of them raises; the others
    have ended then.
    """
    return await while_connected(request, together([collect(request, q) for q in questions]))


async def stream_several(
    request: Request,
    questions: Sequence[Question],
    formatters: Sequence[Formatter],
    end: Callable[[Usage], bytes],
) -> None:
    """Send answers piece by piece, each in its formatter's words; `end` words what follows the last
    of them, given what all took. Raises as `streaming.stream` does.
    """
    pen = Pen(request)
    try:
        await while_connected(request, _stream(request, questions, formatters, end, pen), pen)
    except Gone:
        raise
    except Exception as error:
        if not pen.begun:
            raise
        refusal = refusal_of(error, request.id)
        request.app.log.failed(request, error, refusal)
        await pen.write(formatters[0].failed(refusal), more=False)


async def _stream(
    request: Request,
    questions: Sequence[Question],
    formatters: Sequence[Formatter],
    end: Callable[[Usage], bytes],
    pen: Pen,
) -> None:
    queue: asyncio.Queue[Told] = asyncio.Queue(AHEAD)

    async def pull(number: int, question: Question) -> None:
        async with answering(request, question) as (lease, events):
            async for event in events:
                await queue.put((number, lease, event))

    async def write() -> Usage:
        begun, usages = set[int](), list[Usage]()
        while len(usages) < len(questions):
            number, lease, event = await queue.get()
            piece = b"" if number in begun else formatters[number].begin(lease)
            begun.add(number)
            if not pen.begun:
                await pen.begin(formatters[number].media_type)
            if piece := piece + formatters[number].token(event):
                await pen.write(piece)
            if event.finish:
                usages.append(event.usage or Usage(0, 0))
        return total(usages)

    work: list[Coroutine[Any, Any, Any]] = [pull(i, q) for i, q in enumerate(questions)]
    usage = (await together([write(), *work]))[0]
    await pen.write(end(usage), more=False)


async def together(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Results of works that run at once, in order. One that fails ends the others, and its error
    is raised when they have ended.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def total(usages: Sequence[Usage]) -> Usage:
    """What answers took in all."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        tokens=sum(usage.tokens for usage in usages),
        cached=sum(usage.cached for usage in usages),
        total=max((usage.total for usage in usages), default=0.0),
    )
