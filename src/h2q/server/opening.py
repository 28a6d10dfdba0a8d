"""The whole of `h2q serve`: a socket first, then a house of models behind it, until a signal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from h2q.server.address import is_loopback, shown
from h2q.server.app import create_app
from h2q.server.limits import ServerSettings
from h2q.server.log import Log
from h2q.server.serving import bind, serve

WARM = "warm"  # in the store
NO_KEYS = "Everybody who reaches this address may use the server: H2Q_API_KEYS is not set."


@dataclass(frozen=True)
class Opening:
    """What a person wishes. memory: bytes for all models together, None for a share of what is
    free. context: positions of each model's cache, None as it fits. streams: of one model at once.
    watched: names, and folders whose crystals take them over. warm: bytes of disk for talks.
    ollama: address of another server whose models are here too; crystallize: grow them.
    """

    host: str
    port: int
    settings: ServerSettings = field(default_factory=ServerSettings)
    memory: int | None = None
    context: int | None = None
    streams: int = 64
    watched: tuple[tuple[str, Path], ...] = ()
    warm: int = 0
    ollama: str = ""
    crystallize: bool = False
    quiet: bool = False


class Notes(logging.Handler):
    """What other parts have to say goes into the same log, as JSON."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields = {}
        if record.exc_info:
            fields["trace"] = logging.Formatter().formatException(record.exc_info)[-8000:]
        self._log.write("note", logger=record.name, message=record.getMessage()[:2000], **fields)


def open_house(wish: Opening, listening: Callable[[str], None]) -> None:
    """Listen, say where, and serve until a signal. Raises ResourceError when the port is taken,
    UsageError for a host that is none of this machine's.
    """
    listener = bind(wish.host, wish.port)
    host, port = listener.getsockname()[:2]
    settings = replace(wish.settings, loopback=is_loopback(host))
    log = Log(quiet=wish.quiet)
    logging.getLogger().addHandler(Notes(log))
    listening(shown(host, port))
    log.write("listening", address=shown(host, port))
    if not settings.loopback and not settings.keys:
        log.write("warning", message=NO_KEYS)

    from h2q.crystal.store import Store
    from h2q.orchestrator.manner import Manner
    from h2q.orchestrator.orchestrator import ResourceOrchestrator
    from h2q.runtime.worker import Order

    store = Store()
    manner = Manner(
        budget=wish.memory,
        keep_alive=settings.keep_alive,
        waiting=settings.limits.queue,
        order=Order(
            "",
            context=wish.context,
            streams=wish.streams,
            warm=str(store.root / WARM) if wish.warm else None,
            warm_bytes=wish.warm,
        ),
    )
    house = ResourceOrchestrator(manner=manner, root=store.root)
    for name, _ in wish.watched:
        house.card(name)  # or it is said now that there is none
    bridge = None
    if wish.ollama:
        from h2q.server.bridge import OllamaBridge

        bridge = OllamaBridge(wish.ollama, wish.crystallize)

    async def end() -> None:
        if bridge is not None:
            await bridge.close()

    def begin() -> None:
        house.ready()
        for name, folder in wish.watched:
            house.updates.begin_watch(name, folder)

    app = create_app(house, settings, log=log, bridge=bridge)
    serve(app, listener, begin, end)
