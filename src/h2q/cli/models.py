"""h2q ls, ps, cp, rm and stop: the models that are installed, and those that run."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

from h2q.cli.options import Json
from h2q.cli.parameters import Argument, Option
from h2q.core.errors import H2QError, NetworkError

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard

Name = Annotated[str, Argument(metavar="NAME", help="Of an installed model.")]
Host = Annotated[str | None, Option(help="Of the server: OLLAMA_HOST, else this machine.")]
Port = Annotated[int | None, Option(min=1, max=65535, help="Of the server: 11434.")]
SHORT = 12  # digits of a digest that people compare
UNITS = ((86_400 * 30, "month"), (86_400 * 7, "week"), (86_400, "day"), (3600, "hour"))


def ls(json: Json = False) -> None:
    """List installed models, the newest first."""
    from h2q.cli.output import columns, emit
    from h2q.core.units import format_bytes, format_count
    from h2q.crystal.store import Store

    cards = [model.card(None) for model in Store().models()]
    if json:
        emit({"models": [_told(card) for card in cards]})
        return
    columns(
        ("NAME", "ID", "SIZE", "PARAMETERS", "PLANES", "MODIFIED"),
        [
            (
                card.name,
                card.digest[:SHORT],
                format_bytes(card.size),
                format_count(card.parameters),
                card.bits,
                ago(time.time() - card.modified),
            )
            for card in cards
        ],
    )


def ps(host: Host = None, port: Port = None, json: Json = False) -> None:
    """List the models that a running server has in memory."""
    from h2q.cli.output import columns, emit
    from h2q.cli.server_client import ServerClient
    from h2q.core.units import format_bytes

    client = ServerClient(host, port)
    models = client.ask("GET", "/api/ps").get("models") or []
    if json:
        emit({"server": client.address, "models": models})
        return
    rows = [
        (
            str(model.get("name")),
            str(model.get("digest"))[:SHORT],
            format_bytes(model.get("size") or 0),
            f"{model.get('context_length') or 0:,}",
            _until(str(model.get("expires_at"))),
        )
        for model in models
    ]
    columns(("NAME", "ID", "MEMORY", "CONTEXT", "UNTIL"), rows)


def cp(
    source: Name,
    destination: Annotated[str, Argument(metavar="NEW", help="A further name for it.")],
    json: Json = False,
) -> None:
    """Give a model a second name; nothing but the name is written."""
    from h2q.cli.output import emit, say
    from h2q.crystal.store import Store

    store = Store()
    store.copy(source, destination)
    name = str(store.find(destination).name)
    if json:
        emit({"name": name, "source": str(store.find(source).name)})
    else:
        say(f"{name} is the same model as {source}.")


def rm(
    names: Annotated[list[str], Argument(metavar="NAME...", help="Of installed models.")],
    host: Host = None,
    port: Port = None,
    json: Json = False,
) -> None:
    """Remove models, and the files that no other needs; one that runs is stopped first."""
    from h2q.cli.output import emit, say
    from h2q.core.units import format_bytes
    from h2q.crystal.store import Store

    store, freed = Store(), 0
    models = [store.find(name) for name in names]  # all or none
    for model in models:
        with contextlib.suppress(H2QError):  # there may be no server
            _stop_same(model.digest, host, port)
        size = store.delete(model.name)
        freed += size
        say(f"Removed {model.name}, {format_bytes(size)} freed.")
    if json:
        emit({"removed": [str(model.name) for model in models], "freed_bytes": freed})


def stop(name: Name, host: Host = None, port: Port = None, json: Json = False) -> None:
    """Let a running server give a model's memory back as soon as nobody uses it."""
    from h2q.cli.output import emit, say
    from h2q.cli.server_client import ServerClient

    client = ServerClient(host, port)
    client.ask("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False})
    if json:
        emit({"server": client.address, "stopped": name})
    else:
        say(f"{name} is let go.")


def _stop_same(digest: str, host: str | None, port: int | None) -> None:
    """If a server runs this very model, under whichever name."""
    from h2q.cli.server_client import ServerClient

    client = ServerClient(host, port)
    for model in client.ask("GET", "/api/ps").get("models") or []:
        if model.get("digest") == digest:
            wish = {"model": model.get("name"), "keep_alive": 0, "stream": False}
            client.ask("POST", "/api/generate", wish)


def _told(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "digest": card.digest,
        "size": card.size,
        "modified": card.modified,
        "family": card.family,
        "parameters": card.parameters,
        "planes": card.bits,
        "context_length": card.context_length,
        "capabilities": list(card.capabilities),
        "source": card.source,
    }


def ago(seconds: float) -> str:
    """`3 hours ago`."""
    for size, unit in (*UNITS, (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _until(stamp: str) -> str:
    """How long a model stays, from a time as the server writes it."""
    import re
    from datetime import datetime

    if stamp[:4].isdecimal() and int(stamp[:4]) > 2200:
        return "for ever"
    try:
        when = datetime.fromisoformat(re.sub(r"\.\d+", "", stamp).replace("Z", "+00:00"))
    except ValueError as error:
        raise NetworkError("The server tells a time that is none.", where=stamp[:40]) from error
    left = when.timestamp() - time.time()
    return ago(left).replace(" ago", " from now") if left > 60 else "less than a minute"
