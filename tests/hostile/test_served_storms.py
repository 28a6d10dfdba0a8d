"""Class 16 at the door of a real server: slow, sudden, too many; and bytes that are no HTTP."""

from __future__ import annotations

import json
import os
import random
import select
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
from at_the_door import raw, unharmed

from served import SECONDS, Served, served, until

ASK = {"model": "seed", "prompt": "Once", "raw": True}
SAME = {**ASK, "stream": False, "options": {"temperature": 0, "num_predict": 40}}
LONG = {**ASK, "options": {"temperature": 0, "num_predict": 600}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("storms") / "home"
    with served(home, "--queue", "24", "--streams", "8", seed=seed_path) as found:
        yield found


@pytest.fixture(autouse=True)
def _afterwards(server: Served) -> Iterator[None]:
    yield
    assert until(lambda: server.metric("num_requests_running") == 0)
    assert until(lambda: server.metric("num_requests_waiting") == 0)
    unharmed(server)


def opened(server: Served, body: object, path: str = "/api/generate") -> socket.socket:
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), SECONDS)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


class Stays:
    """One who asks for a stream and is being answered when this is made."""

    def __init__(self, server: Served) -> None:
        self._connection = opened(server, LONG)
        self._answer = HTTPResponse(self._connection)
        self._answer.begin()
        assert self._answer.status == 200
        self._first = self._answer.readline()
        assert b'"done":false' in self._first

    def said(self) -> str:
        """All of it; the connection ends."""
        lines = [json.loads(line) for line in (self._first, *self._answer)]
        self._connection.close()
        assert lines[-1]["done"], lines[-1]
        return "".join(line["response"] for line in lines)


def test_slow_clients_keep_nobody_waiting(server: Served) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), SECONDS) for _ in range(200)]
    for number, connection in enumerate(slow):
        part = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        connection.sendall(part[: 1 + number % len(part)])
    assert server.post("/api/generate", SAME)[0] == 200
    for connection in slow:
        connection.close()


def test_a_storm_of_clients_that_leave(server: Served) -> None:
    alone, other = Stays(server).said(), Stays(server)
    generator = random.Random(1)
    for number in range(120):
        connection = opened(server, ASK, "/api/chat" if number % 7 == 0 else "/api/generate")
        if generator.random() < 0.5:
            connection.recv(generator.choice((1, 100, 5000)))
        if number % 3 == 0:  # a reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert other.said() == alone


def test_more_than_may_wait(server: Served) -> None:
    wish = {**ASK, "options": {"num_predict": 100_000}}
    first = [opened(server, wish) for _ in range(80)]
    try:
        refused = refusals(first)
        assert server.call("GET", "/health/ready")[0] == 200
    finally:
        for connection in first:
            connection.close()
    for wait, words in refused:
        assert wait is not None
        assert b"maximum pending requests exceeded" in words


def refusals(connections: list[socket.socket]) -> list[tuple[str | None, bytes]]:
    """Of those that are answered now, at least one: when to come again, and the words."""
    rest, refused = list(connections), list[tuple[str | None, bytes]]()

    def some_are_refused() -> bool:
        for connection in select.select(rest, [], [], 0.2)[0]:
            rest.remove(connection)
            if connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503":
                answer = HTTPResponse(connection)
                answer.begin()
                refused.append((answer.headers["Retry-After"], answer.read()))
        return bool(refused)

    assert until(some_are_refused)
    while select.select(rest, [], [], 0.2)[0]:
        some_are_refused()
    return refused


def test_one_is_cancelled_and_the_other_says_the_same(server: Served) -> None:
    alone = Stays(server).said()
    for _ in range(5):
        leaving, other = opened(server, ASK), Stays(server)
        assert leaving.recv(10)
        leaving.close()
        assert other.said() == alone


POST = b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\n"
BYTES = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0" * 10_000, b"\r\n" * 5000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}12",
    POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /api/tags HTTP/1.1\r\nHost: a.local\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.local\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"GET /%00%ff%zz HTTP/1.1\r\nHost: a.local\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.local\r\nX: a\r\n b\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("data", BYTES, ids=range(len(BYTES)))
def test_bytes_that_are_no_request(server: Served, data: bytes) -> None:
    answer = raw(server, data)
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:100]


def test_noise(server: Served) -> None:
    for _ in range(50):
        raw(server, os.urandom(2000), close=True)


def test_many_requests_on_one_connection(server: Served) -> None:
    one = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        connection.sendall(one * 200 + last)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == 201
