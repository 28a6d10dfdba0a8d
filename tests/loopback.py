"""HTTP on a free port of the loopback, from a thread, for as long as a block runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers quietly."""

    def log_message(self, *_: Any) -> None:
        pass

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        """All of an answer but its body."""
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def rest(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status, and the part of `data` that was asked for; the headers then say which."""
        wanted = self.headers["Range"]
        if not wanted:
            return 200, data
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return 206, data[begin:]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def listening(handler: type[Handler], ends: threading.Event) -> Iterator[str]:
    """Its host and port. `ends` is set in the end, so that no answer waits any longer."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        ends.set()
        server.shutdown()
        server.server_close()
        thread.join()
