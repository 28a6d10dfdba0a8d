"""Answers of a model: as a stream in a dialect's words, or whole.

Leases the model, pulls its events, counts them, and stops it within one step when the client
leaves. A dialect gives the question and a formatter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from h2q.core.asks import Ask
from h2q.core.errors import BusyError, ResourceError
from h2q.core.events import Part, TokenEvent, Usage
from h2q.server.connected import Pen, while_connected
from h2q.server.metrics import Meter
from h2q.server.refusal import Gone, Refusal, refusal_of

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.request import Request


@dataclass(frozen=True)
class Question:
    """An ask for a model, by the name the client used."""

    model: str
    ask: Ask
    keep_alive: float | None = None


class Formatter(Protocol):
    """A dialect's words for one streamed answer. Pieces may be empty: then nothing is sent."""

    media_type: bytes

    def begin(self, lease: Lease) -> bytes:
        """What stands before the first token; the model is there."""
        ...

    def token(self, event: TokenEvent) -> bytes:
        """One event. The last has `finish` set, and ends the answer."""
        ...

    def failed(self, refusal: Refusal) -> bytes:
        """An error after the first byte; nothing follows."""
        ...


@dataclass
class Answer:
    """A whole answer. `events` are all of them, for whoever wants log-probabilities."""

    card: Any
    load_seconds: float
    events: list[TokenEvent] = field(default_factory=list)
    finish: str = ""
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    calls: list[Part] = field(default_factory=list)
    content: str = ""
    reasoning: str = ""


def parts_of(event: TokenEvent, split: bool) -> tuple[Part, ...]:
    """What an event says: told apart, or all of it content where the ask did not want it split."""
    if split:
        return event.parts
    return (Part("content", event.text),) if event.text else ()


async def stream(request: Request, question: Question, formatter: Formatter) -> None:
    """Send an answer piece by piece. Raises Refusal or H2QError when nothing was sent yet; later
    errors are told in the stream. Raises Gone when the client leaves.
    """
    pen = Pen(request)
    try:
        await while_connected(request, _stream(request, question, formatter, pen), pen)
    except Gone:
        raise
    except Exception as error:
        if not pen.begun:
            raise
        refusal = refusal_of(error, request.id)
        request.app.log.failed(request, error, refusal)
        await pen.write(formatter.failed(refusal), more=False)


async def gather(request: Request, question: Question) -> Answer:
    """A whole answer. Raises Refusal or H2QError, and Gone when the client leaves."""
    return await while_connected(request, collect(request, question))


async def _stream(request: Request, question: Question, formatter: Formatter, pen: Pen) -> None:
    async with answering(request, question) as (lease, events):
        async for event in events:
            if pen.begun:
                piece = formatter.token(event)
            else:
                piece = formatter.begin(lease) + formatter.token(event)
                await pen.begin(formatter.media_type)
            if piece:
                await pen.write(piece)
    await pen.write(b"", more=False)


async def collect(request: Request, question: Question) -> Answer:
    """The same for whoever watches the connection already."""
    content, reasoning = list[str](), list[str]()
    async with answering(request, question) as (lease, events):
        answer = Answer(lease.card, lease.load_seconds)
        async for event in events:
            answer.events.append(event)
            for part in parts_of(event, question.ask.split):
                if part.kind == "content":
                    content.append(part.text)
                elif part.kind == "reasoning":
                    reasoning.append(part.text)
                else:
                    answer.calls.append(part)
            if event.finish:
                answer.finish = event.finish
                answer.usage = event.usage or answer.usage
    answer.content, answer.reasoning = "".join(content), "".join(reasoning)
    return answer


@asynccontextmanager
async def answering(
    request: Request, question: Question
) -> AsyncIterator[tuple[Lease, AsyncIterator[TokenEvent]]]:
    """The leased model and its counted events; closed in order whatever happens."""
    card = request.house.card(question.model)
    request.model = card.name
    series, leased = request.app.metrics.of(card.name), False
    meter = Meter(series, request.arrived)
    try:
        with request.app.gate.enter(request.client) as place, meter:
            async with request.house.lease(question.model, question.keep_alive) as lease:
                leased = True
                meter.leased()
                async with _closing(lease.worker.generate(question.ask), meter) as source:
                    yield lease, _counted(source, meter, place)
    except (BusyError, ResourceError, Refusal):
        series.refused += not leased
        raise


@asynccontextmanager
async def _closing(
    source: AsyncIterator[TokenEvent], meter: Meter
) -> AsyncIterator[AsyncIterator[TokenEvent]]:
    try:
        yield source
    except BaseException as error:
        if isinstance(error, Gone) or not isinstance(error, Exception):  # nobody is left to answer
            meter.gone()
        raise
    finally:
        if close := getattr(source, "aclose", None):
            await close()


async def _counted(
    source: AsyncIterator[TokenEvent], meter: Meter, place: Any
) -> AsyncIterator[TokenEvent]:
    async for event in source:
        if event.token >= 0:
            meter.token()
            if meter.tokens == 1:
                place.begin()
        if event.finish:
            meter.end(event)
            yield event
            return
        yield event
    raise ResourceError("The model's answer broke off without an end.")
