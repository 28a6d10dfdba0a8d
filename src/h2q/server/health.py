"""Endpoints of the house itself: alive, ready, counted. None wakes a model or prolongs its life."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from h2q.core.errors import H2QError
from h2q.server.dialect import Route
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply

if TYPE_CHECKING:
    from h2q.runtime.worker import WorkerState
    from h2q.server.request import Request

STATUS_SECONDS = 1.0  # a worker that is busy longer is left out
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
HERE = "h2q.server.health:"
PAGES = "h2q.server.documents:"
UI = "h2q.server.ui.pages:page"
TOLD = "h2q.server.health_told:"


class House:
    """Not a manner of speaking, but it has routes and words for errors like one."""

    name = "house"
    refuses = TOLD + "HouseError"

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "GET",
                "/health/live",
                HERE + "live",
                "The process is up.",
                gives=TOLD + "Live",
                open=True,
            ),
            Route(
                "GET",
                "/health/ready",
                HERE + "ready",
                "It takes requests.",
                gives=TOLD + "Ready",
                open=True,
            ),
            Route(
                "GET",
                "/metrics",
                HERE + "metrics",
                "What was counted, for Prometheus.",
                text="text/plain",
            ),
            Route(
                "GET",
                "/openapi.json",
                PAGES + "openapi",
                "This interface.",
                gives=TOLD + "Interface",
            ),
            Route(
                "GET",
                "/api/h2q/state",
                "h2q.server.looking:state",
                "Models, memory, queue and speed.",
                gives="h2q.server.looking_told:HouseState",
            ),
            Route(
                "POST",
                "/api/h2q/control",
                "h2q.server.looking:control",
                "Load, unload, pin, refine or drop.",
                "h2q.server.looking_told:ControlRequest",
                "h2q.server.looking_told:Controlled",
            ),
            Route(
                "POST",
                "/api/h2q/update",
                "h2q.server.updating:update",
                "Another crystal in the place of a running one.",
                "h2q.server.updating_told:UpdateRequest",
                "h2q.server.updating_told:UpdateTold",
            ),
            Route("GET", "/ui", UI, "The dashboard.", text="text/html", open=True),
            Route("GET", "/ui/{asset}", UI, "Its files.", text="text/plain", open=True),
            Route("GET", "/docs", PAGES + "page", "This interface, to read.", text="text/html"),
        )

    def error(self, refusal: Refusal) -> Reply:
        return json_reply({"error": refusal.message}, refusal.status, refusal.headers)


async def live(request: Request) -> Reply:
    return json_reply({"status": "live"})


async def ready(request: Request) -> Reply:
    gate = request.app.gate
    if gate.draining:
        raise Refusal(503, "draining")
    return json_reply({"status": "ready", "running": gate.running, "waiting": gate.waiting})


async def metrics(request: Request) -> Reply:
    from h2q.server.metrics_text import metrics_text

    running = request.house.running()
    states = await states_of(request, [model.card.name for model in running])
    page = await asyncio.to_thread(metrics_text, request.app.metrics, states, running)
    return Reply(page, media_type=PROMETHEUS)


async def states_of(request: Request, names: Sequence[str]) -> dict[str, WorkerState]:
    """What running models tell of themselves, those that answer in time."""
    from h2q.runtime.worker import Control

    async def ask(name: str) -> WorkerState | None:
        try:
            status = request.house.control(name, Control("status"))
            return await asyncio.wait_for(status, STATUS_SECONDS)
        except (H2QError, asyncio.TimeoutError):
            return None

    states = await asyncio.gather(*(ask(name) for name in names))
    return {name: state for name, state in zip(names, states, strict=True) if state is not None}
