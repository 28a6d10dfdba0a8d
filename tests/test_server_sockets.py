"""What clients see on the socket: pieces of an answer leave at once, and old clients get no framing
that they do not know.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from h2q.bench.scripted import ScriptedHouse, ScriptedWorker
from h2q.bench.serve_client import WIRES, Wire
from h2q.core.asks import Ask
from h2q.core.events import TokenEvent
from h2q.server.leaving import leaving
from scripted_server import Running, running


def test_small_pieces_are_not_held_back(scripted: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", scripted.port, timeout=60)
    connection.request("GET", "/health/live")
    connection.getresponse().read()
    protocols: list[Any] = list(scripted.serving.server_state.connections)
    assert protocols
    for protocol in protocols:
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_a_connection_leaves_nothing_for_the_collector(scripted: Running) -> None:
    """Its memory is free when it ends; cycles would stay until the collector looks at old ones."""
    gc.disable()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", scripted.port, timeout=60)
        connection.request("POST", "/api/generate", b'{"model":"scripted","prompt":"p"}')
        connection.getresponse().read()
        (protocol,) = scripted.serving.server_state.connections
        left = weakref.ref(protocol)
        del protocol
        connection.close()
        assert scripted.until(lambda: left() is None)
    finally:
        gc.enable()


def test_a_client_of_http_1_0_gets_no_chunks(scripted: Running) -> None:
    for stream in (True, False):
        body = json.dumps({"model": "scripted", "prompt": "p", "stream": stream}).encode()
        head = f"POST /api/generate HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", scripted.port), 60) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            with connection.makefile("rb") as answer:
                told, _, data = answer.read().partition(b"\r\n\r\n")  # the end is the end
        assert b"200 OK" in told
        assert b"transfer-encoding" not in told
        lines = [json.loads(line) for line in data.splitlines()]
        assert lines[-1]["done"] is True
        assert len(lines) > 2 or not stream


def test_leaving_is_seen_without_the_loop() -> None:
    """What was sent but not read is no leaving; a closed half, or all of it, is."""

    async def work(leave: Any) -> list[bool]:
        made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

        class Deaf(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.set_result(transport)

        server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            transport = await made
            left = leaving(transport)
            seen = [left()]
            client.sendall(b"more")
            seen.append(left())
            leave(client, transport)
            seen.append(left())
            transport.abort()
        server.close()
        return seen

    def half(client: socket.socket, transport: Any) -> None:
        client.shutdown(socket.SHUT_WR)

    def ours(client: socket.socket, transport: Any) -> None:
        transport.close()

    for leave in (half, ours):
        assert asyncio.run(work(leave)) == [False, False, True]


class Bursting(ScriptedWorker):
    """After three tokens it holds the loop until told to go on, then has twenty more at once."""

    def __init__(self) -> None:
        super().__init__()
        self.holds, self.go = threading.Event(), threading.Event()

    async def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        for index in range(23):
            if index == 3:
                await asyncio.sleep(0.05)  # what was said is sent
                self.holds.set()
                assert self.go.wait(60)
            yield self._token(ask, index, 0.0)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_a_burst_after_the_client_left_is_not_sent(wire: Wire) -> None:
    house = ScriptedHouse()
    house.worker = worker = Bursting()
    with running(house=house) as server:
        request = wire.request("scripted", 23)
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            client.sendall(request)
            said = b""
            while said.count(wire.piece) < 3:
                said += client.recv(1 << 16)
            assert worker.holds.wait(60)
            client.shutdown(socket.SHUT_WR)
            worker.go.set()
            while piece := client.recv(1 << 16):
                said += piece
        assert said.count(wire.piece) == 3
        assert server.until(lambda: house.leases == 0)
