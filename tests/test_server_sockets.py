"""What clients see on the socket: pieces of an answer leave at once, and old clients get no framing
that they do not know.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from scripted_server import Running


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
