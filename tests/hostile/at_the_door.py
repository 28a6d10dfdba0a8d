"""Requests to a real server, whose answers must give nothing away."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import psutil

from served import Served

MEMORY = 700 << 20  # bytes that the server, or a model's process, never exceeds here
SILENT_SECONDS = 90.0
SECRETS = (
    b"Traceback",
    str(Path(__file__).parents[2]).encode(),
    b"/home/",
    b"/tmp/",
    b"site-packages",
    b'.py"',
    b"0x7f",
)


def told(
    server: Served,
    path: str,
    body: Any = None,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and bytes of an answer that says nothing of the machine's inside. A dictionary with
    numbers that JSON does not know is sent all the same.
    """
    status, data = server.call(method, path, body, headers)
    discreet(server, data)
    return status, data


def discreet(server: Served, data: bytes) -> None:
    """Nothing of the inside is in an answer."""
    for secret in (*SECRETS, str(server.home).encode()):
        assert secret not in data, data[:500]


def error_of(data: bytes) -> str:
    """The words of an error in Ollama's or OpenAI's form; of a stream, the last line's."""
    lines = data.strip().splitlines()
    found = msgspec.json.decode(lines[-1])["error"]
    return str(found["message"] if isinstance(found, dict) else found)


def raw(server: Served, data: bytes, close: bool = False) -> bytes:
    """What comes back for bytes as they are, up to the end of the connection or 64 KiB."""
    with socket.create_connection(("127.0.0.1", server.port), SILENT_SECONDS) as connection:
        answer = b""
        try:
            connection.sendall(data)
            if close:
                return b""
            connection.shutdown(socket.SHUT_WR)
            while len(answer) < 1 << 16 and (piece := connection.recv(1 << 16)):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    discreet(server, answer)
    return answer


def unharmed(server: Served) -> None:
    """It answers, its model answers, and nothing has grown."""
    assert server.lives
    body = {"model": "seed", "prompt": "Once", "raw": True, "stream": False}
    status, data = server.call("POST", "/api/generate", {**body, "options": {"num_predict": 2}})
    assert status == 200, data
    for process in (psutil.Process(server.process.pid), *server.workers()):
        assert process.memory_info().rss < MEMORY
