"""The process: a socket, the application on it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from h2q.core.errors import ResourceError, UsageError
from h2q.server.protocol import protocol

if TYPE_CHECKING:
    from h2q.server.app import App

BACKLOG = 2048
SETTLED_SECONDS = 0.05  # after which the first requests are in
LATER = ("h2q.server.ollama.answers", "h2q.server.ollama.embed", "h2q.server.metrics_text")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ResourceError when the port is taken or not allowed, UsageError
    for a host that is none of this machine's.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends small pieces at once (TCP_NODELAY) only where the protocol has its number.
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise _not_bound(error, host, port) from error
    listener.setblocking(False)
    return listener


def _not_bound(error: OSError, host: str, port: int) -> ResourceError | UsageError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ResourceError(
            "The port is taken, perhaps by Ollama.",
            where=where,
            fix=f"Serve beside it: h2q serve --port {port + 1} --ollama http://{where}",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ResourceError("The port may not be used by this person.", where=where)
    return UsageError(f"The address cannot be used: {error.strerror or error}.", where=where)


class Serving(uvicorn.Server):
    """A server that drains: after the first signal it stays for answers under way, tells others
    that it is ending, and then goes; after the second it goes at once.
    """

    def __init__(self, app: App) -> None:
        limits = app.settings.limits
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(limits.idle_seconds),
                timeout_graceful_shutdown=1,
                loop=_loop(),
            )
        )
        self._app = app
        self._ending: asyncio.Task[None] | None = None
        self._history: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._history = asyncio.ensure_future(self._app.history.keep(self._app))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._history is not None:
            self._history.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals mean the end of serving, not of the process: the house is closed after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {
            number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.end))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self) -> None:
        """Begin to drain; called again, stop at once."""
        if self._ending is None:
            self._app.log.write("draining", running=self._app.gate.running)
            self._ending = asyncio.ensure_future(self._drain())
        else:
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        await self._app.gate.drain(self._app.settings.limits.drain_seconds)
        self.should_exit = True


def _loop() -> Any:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


async def _nothing() -> None: ...


def serve(
    app: App,
    listener: socket.socket,
    begun: Callable[[], None] = lambda: None,
    ended: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    """Serve until a signal; then the house is closed. `begun` is called when answers can be had,
    `ended` behind all else.
    """
    server = Serving(app)

    async def work() -> None:
        asyncio.get_running_loop().call_later(SETTLED_SECONDS, begun)
        threading.Thread(target=_preload, daemon=True).start()
        try:
            await server.serve([listener])
        finally:
            await app.house.close(0.0)
            await ended()
            app.log.write("ended")

    asyncio_run(work, server)


def asyncio_run(work: Any, server: uvicorn.Server) -> None:
    """On the loop that the configuration names."""
    loop = server.config.get_loop_factory()
    if loop is None:
        asyncio.run(work())
        return
    running = loop()
    try:
        asyncio.set_event_loop(running)
        running.run_until_complete(work())
    finally:
        running.run_until_complete(running.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        running.close()


def _preload() -> None:
    """What the first requests need, while nobody waits for it."""
    import importlib

    for name in LATER:
        importlib.import_module(name)
