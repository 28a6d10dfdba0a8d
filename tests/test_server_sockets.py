"""Pieces of an answer leave at once: none waits for the next to fill a packet."""

from __future__ import annotations

import http.client
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
