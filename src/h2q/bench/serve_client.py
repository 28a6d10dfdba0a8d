"""Clients of `h2q bench serve`: plain sockets, so that they cost little themselves, and the process
they talk to.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from h2q.core.errors import ResourceError

# A chunk as the server sends it, for the bare writer.
LINE = (
    b'{"model":"scripted","created_at":"2026-01-01T00:00:00.123456789Z",'
    b'"message":{"role":"assistant","content":" crystal"},"done":false}\n'
)
START_SECONDS = 60.0
SILENT_SECONDS = 60.0  # a stream that says nothing for so long has failed
TURN = [{"role": "user", "content": "Tell me a story."}]


@dataclass(frozen=True)
class Wire:
    """One dialect: where, what is asked, and how its pieces and its end look."""

    name: str
    path: str
    piece: bytes
    end: bytes

    def request(self, model: str, tokens: int) -> bytes:
        """The bytes of a streamed request for so many tokens; the connection ends with it."""
        body: dict[str, Any] = {"model": model, "messages": TURN, "stream": True}
        if self.name == "ollama":
            body["options"] = {"num_predict": tokens}
        else:
            body["max_tokens"] = tokens
        data = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


OLLAMA = Wire("ollama", "/api/chat", b'"done":false}', b'"done":true')
OPENAI = Wire("openai", "/v1/chat/completions", b'"delta":{"content":', b"data: [DONE]")
WIRES = (OLLAMA, OPENAI)


@dataclass
class Child:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    def __post_init__(self) -> None:
        self._seen = psutil.Process(self.process.pid)

    def cpu(self) -> float:
        """Seconds of processor time so far, of all threads; to the nanosecond on Linux."""
        if sys.platform == "linux":
            return time.clock_gettime(~self.process.pid << 3 | 2)  # as clock_getcpuclockid has it
        times = self._seen.cpu_times()
        return times.user + times.system

    def resident(self) -> int:
        """Bytes of memory now."""
        return int(self._seen.memory_info().rss)

    def get(self, path: str) -> Any:
        """A JSON document."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SILENT_SECONDS)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def connect(self, request: bytes) -> socket.socket:
        """A connection on which a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), SILENT_SECONDS)
        connection.sendall(request)
        return connection


@contextmanager
def child(kind: str, pause: float = 0.0) -> Iterator[Child]:
    """A process of `serve_child.py`, ended with the block."""
    command = [sys.executable, "-m", "h2q.bench.serve_child", kind, str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise ResourceError("The server to be measured did not start.", where=kind)
            found = Child(process, int(line))
            until_up(found.port)
            yield found
        finally:
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def until_up(port: int) -> None:
    """Return when something listens. Raises ResourceError."""
    late = time.perf_counter() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError as error:
            if time.perf_counter() > late:
                raise ResourceError("The server to be measured does not listen.") from error
            time.sleep(0.002)


def whole_stream(server: Child, request: bytes) -> tuple[float, bytes]:
    """Seconds from the first byte of an answer to its end, and the answer."""
    with server.connect(request) as connection:
        pieces = [connection.recv(1 << 16)]
        began = time.perf_counter()
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
        return time.perf_counter() - began, b"".join(pieces)


def said(answer: bytes, wire: Wire) -> int:
    """Tokens in an answer. Raises ResourceError when it is none, or has no end."""
    if not answer.startswith(b"HTTP/1.1 200") or wire.end not in answer:
        shown = re.sub(rb"[^ -~]+", b" ", answer[:200]).decode()
        raise ResourceError(f"A measured answer is wrong: {shown}", where=wire.path)
    return answer.count(wire.piece)
