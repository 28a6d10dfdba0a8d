"""The process that `h2q bench serve` measures: the server over the scripted engine, or a bare
socket that writes the same bytes.

Prints its port as its only line on stdout; ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from h2q.bench.scripted import Script, ScriptedHouse
from h2q.core.asks import Ask
from h2q.server.app import DIALECTS, create_app
from h2q.server.dialect import Route, load
from h2q.server.log import Log
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply
from h2q.server.serving import bind, serve

if TYPE_CHECKING:
    from h2q.server.request import Request

ENDLESS = 1 << 40


class Looking:
    """An endpoint that tells when the last tokens were made, on the clock of all processes."""

    name = "bench"

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/bench/times", "h2q.bench.serve_child:times", "When tokens came."),)

    def error(self, refusal: Refusal) -> Reply:
        return json_reply({"error": refusal.message}, refusal.status)


async def times(request: Request) -> Reply:
    house = request.house
    assert isinstance(house, ScriptedHouse)
    return json_reply(
        {"times": list(house.worker.times), "made": house.worker.made, "leases": house.leases}
    )


def _tell(listener: socket.socket) -> None:
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()


def scripted(pause: float) -> None:
    """The whole server; the engine rests `pause` seconds between tokens."""
    house = ScriptedHouse(Script(tokens=ENDLESS, pause=pause))
    listener = bind("127.0.0.1", 0)
    _tell(listener)
    dialects = (Looking(), *(load(place)() for place in DIALECTS))
    serve(create_app(house, dialects=dialects, log=Log(quiet=True)), listener)


class Bare(asyncio.Protocol):
    """What any server on this loop pays: for each token of the same engine a line is written, or
    nothing, so that the engine's own cost is known. The request says which, how many, and the
    seconds between them: GET /LINE/COUNT/PAUSE.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        _, line, count, pause = data.split(b" ", 2)[1].split(b"/")
        self._task = asyncio.ensure_future(self._write(line == b"line", int(count), float(pause)))

    async def _write(self, lines: bool, count: int, pause: float) -> None:
        from h2q.bench.scripted import ScriptedWorker
        from h2q.bench.serve_client import LINE
        from h2q.core.sampling_options import SamplingOptions

        chunk = b"%x\r\n%s\r\n" % (len(LINE), LINE)
        self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        worker = ScriptedWorker(Script(tokens=ENDLESS, pause=pause))
        ask = Ask(prompt="x", sampling=SamplingOptions(max_tokens=count))
        async for _ in worker.generate(ask):
            if lines:
                self._transport.write(chunk)
        self._transport.write(b"0\r\n\r\n")
        self._transport.close()


def bare() -> None:
    """The same work without a server."""

    async def work() -> None:
        listener = bind("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Bare, sock=listener)
        _tell(listener)
        await server.serve_forever()

    try:
        import uvloop
    except ImportError:
        asyncio.run(work())
    else:
        uvloop.run(work())


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare()
    else:
        scripted(float(sys.argv[2]))
