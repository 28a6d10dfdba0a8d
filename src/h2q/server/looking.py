"""`/api/h2q/state` and `/api/h2q/control`: all that a dashboard shows, and what its buttons do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from h2q.core.errors import MissingModelError
from h2q.core.memory import free_bytes
from h2q.runtime.worker import Control
from h2q.server.connected import while_connected
from h2q.server.health import states_of
from h2q.server.looking_told import ControlRequest
from h2q.server.metrics import clock
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard, RunningModel
    from h2q.runtime.worker import WorkerState
    from h2q.server.app import App
    from h2q.server.request import Request

WISHES = ("load", "unload", "status", "pin", "refine", "drop", "forget")


async def state(request: Request) -> Reply:
    """Models, memory, queue, speed, and the last minutes. Wakes no model, prolongs no life."""
    app, house = request.app, request.house
    running = {model.card.name: model for model in house.running()}
    states = await states_of(request, list(running))
    cards = {card.name: card for card in house.models()}
    cards |= {name: model.card for name, model in running.items()}
    models = [
        _model(app, card, running.get(name), states.get(name)) for name, card in cards.items()
    ]
    document: dict[str, Any] = {
        "up_seconds": round(clock() - app.began, 3),
        "draining": app.gate.draining,
        "running": app.gate.running,
        "waiting": app.gate.waiting,
        "refused": app.gate.refused,
        "memory": {
            "resident": sum(model.resident for model in running.values()),
            "promised": sum(model.budget for model in running.values()),
            "free": free_bytes(),
        },
        "models": models,
        "history": [asdict(sample) for sample in app.history.samples],
    }
    if app.bridge is not None:
        growths = {name: asdict(growth) for name, growth in app.bridge.growths.items()}
        document["bridge"] = {"url": app.bridge.url, "growths": growths}
    return json_reply(document)


async def control(request: Request) -> Reply:
    """A wish about one model; only `load` wakes it."""
    given = await request.read(ControlRequest)
    if given.wish not in WISHES:
        raise Refusal(400, f"wish must be one of {', '.join(WISHES)}", param="wish")
    if given.planes is not None and (given.wish != "pin" or given.planes < 1):
        raise Refusal(400, "planes is a number from 1 on, for `pin`", param="planes")
    house = request.house
    try:
        name = request.model = house.card(given.model).name
        if given.wish == "unload":
            return json_reply({"model": name, "unloaded": await house.unload(name)})
        if given.wish == "load":
            await while_connected(request, _load(request, name))
        wish = "status" if given.wish == "load" else given.wish
        found = await while_connected(request, house.control(name, Control(wish, given.planes)))
    except MissingModelError as error:
        raise Refusal(404, error.what, param="model") from None
    return json_reply({"model": name, "state": asdict(found)})


async def _load(request: Request, name: str) -> None:
    with request.app.gate.enter(request.client):
        async with request.house.lease(name):
            pass


def _model(
    app: App, card: ModelCard, running: RunningModel | None, state: WorkerState | None
) -> dict[str, Any]:
    series = app.metrics.models.get(card.name)
    return {
        "name": card.name,
        "digest": card.digest,
        "size": card.size,
        "family": card.family,
        "parameters": card.parameters,
        "bits": card.bits,
        "capabilities": card.capabilities,
        "context_length": running.context_length if running else card.context_length,
        "in_memory": running is not None,
        "resident": running.resident if running else 0,
        "promised": running.budget if running else 0,
        "planes": running.planes if running else 0,
        "all_planes": running.all_planes if running else 0,
        "expires": running.expires if running else None,
        "running": series.running if series else 0,
        "waiting": series.waiting if series else 0,
        "tokens": series.said if series else 0,
        "prompt_tokens": series.prompt_tokens if series else 0,
        "first_token_seconds": list(series.last_first_tokens) if series else [],
        "state": asdict(state) if state else None,
    }
