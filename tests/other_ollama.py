"""A stand-in for a running Ollama: it speaks the contract, or breaks it in the way that the name of
the model says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopback import Handler, listening

LINES = [
    b'{"model":"theirs","created_at":"2026-01-01T00:00:00Z","response":"a\\u003cb","done":false}\n',
    b'{"model":"theirs","created_at":"2026-01-01T00:00:00Z","response":" c","done":false}\n',
    b'{"model":"theirs","response":"","done":true,"done_reason":"stop","eval_count":2}\n',
]
EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b"data: [DONE]\n\n",
]
TAG = {"name": "theirs:latest", "model": "theirs:latest", "size": 5, "digest": "ab" * 32}
DOUBLE = {**TAG, "name": "scripted:latest", "model": "scripted:latest"}


@dataclass
class Other:
    """What it was asked, and how often a client left it in the middle."""

    port: int = 0
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    left: int = 0
    free: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def other_ollama() -> Iterator[Other]:
    """Runs for as long as the block."""
    other = Other()

    class Answers(Handler):
        protocol_version = "HTTP/1.1"

        def _heads(self) -> dict[str, str]:
            return {name.lower(): value for name, value in self.headers.items()}

        def do_GET(self) -> None:  # noqa: N802 - of http.server
            other.asked.append((self.path, self._heads(), b""))
            if self.path == "/api/tags":
                self._whole(200, {"models": [TAG, DOUBLE]})
            elif self.path == "/v1/models":
                self._whole(200, {"object": "list", "data": [{"id": "theirs:latest"}]})
            else:
                self._whole(404, {"error": "no"})

        def do_POST(self) -> None:  # noqa: N802 - of http.server
            data = self.rfile.read(int(self.headers["Content-Length"]))
            other.asked.append((self.path, self._heads(), data))
            name = json.loads(data)["model"]
            try:
                getattr(self, f"_{name}", self._unknown)(json.loads(data))
            except (BrokenPipeError, ConnectionResetError):
                other.left += 1
                self.close_connection = True

        def _unknown(self, body: dict[str, Any]) -> None:
            self._whole(404, {"error": f"model '{body['model']}' not found"})

        def _theirs(self, body: dict[str, Any]) -> None:
            if not body.get("stream", True):
                self._whole(200, {"response": "whole & <good>", "done": True})
                return
            events = self.path.startswith("/v1/")
            self._begin("text/event-stream" if events else "application/x-ndjson")
            for piece in EVENTS if events else LINES:
                self._piece(piece)
            self._piece(b"")

        def _breaks(self, body: dict[str, Any]) -> None:
            events = self.path.startswith("/v1/")
            self._begin("text/event-stream" if events else "application/x-ndjson")
            self._piece((EVENTS if events else LINES)[0])
            self._piece(b'data: {"cho' if events else b'{"model":"br')
            self.close_connection = True
            self.connection.close()

        def _short(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"response":')
            self.wfile.flush()
            self.close_connection = True

        def _silent(self, body: dict[str, Any]) -> None:
            other.free.wait(60)
            self.close_connection = True

        def _stalls(self, body: dict[str, Any]) -> None:
            self._begin("application/x-ndjson")
            self._piece(LINES[0])
            self._silent(body)

        def _moves(self, body: dict[str, Any]) -> None:
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/api/generate")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _endless(self, body: dict[str, Any]) -> None:
            self._begin("application/x-ndjson")
            while not other.free.wait(0.002):
                self._piece(LINES[0])

        def _begin(self, media_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()

        def _piece(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def _whole(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.head(status, {"Content-Type": "application/json; charset=utf-8"}, len(data))
            self.wfile.write(data)

    with listening(Answers, other.free) as host:
        other.port = int(host.rpartition(":")[2])
        yield other
