"""A real server on a free port of the loopback, over a scripted house, in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from h2q.bench.scripted import Script, ScriptedHouse
from h2q.server.app import App, create_app
from h2q.server.bridge import OllamaBridge
from h2q.server.limits import ServerSettings
from h2q.server.log import Log
from h2q.server.serving import Serving, bind


@dataclass
class Running:
    """The server, and ways to talk to it."""

    app: App
    house: ScriptedHouse
    port: int
    log: io.StringIO
    serving: Serving

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        host: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, bytes. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        sent = dict(headers or {})
        if host:
            sent["Host"] = host
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON."""
        status, _, data = self.call("POST", path, body)
        return status, json.loads(data) if data else None

    def lines(self, path: str, body: Any) -> list[dict[str, Any]]:
        """The objects of a stream."""
        status, headers, data = self.call("POST", path, body)
        assert status == 200, data
        assert headers["content-type"] == "application/x-ndjson"
        assert data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]

    def until(self, holds: Any, seconds: float = 10.0) -> bool:
        """Whether something becomes so in time."""
        late = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > late:
                return False
            time.sleep(0.005)
        return True


@contextmanager
def running(
    script: Script | None = None,
    settings: ServerSettings | None = None,
    house: ScriptedHouse | None = None,
    dialects: Any = None,
    ollama: str = "",
    crystallize: bool = False,
    silent_seconds: float = 60.0,
) -> Iterator[Running]:
    """Serve for as long as the block runs."""
    house = house or ScriptedHouse(script)
    out = io.StringIO()
    listener = bind("127.0.0.1", 0)
    ready: list[Running] = []
    begun = threading.Event()

    def work() -> None:
        async def main() -> None:
            bridge = OllamaBridge(ollama, crystallize, silent_seconds) if ollama else None
            app = create_app(house, settings, dialects, Log(out), bridge)
            serving = Serving(app)
            ready.append(Running(app, house, listener.getsockname()[1], out, serving))
            begun.set()
            await serving.serve([listener])
            await house.close(0.0)
            if bridge is not None:
                await bridge.close()

        asyncio.run(main())

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(30)
    try:
        yield ready[0]
    finally:
        ready[0].serving.should_exit = ready[0].serving.force_exit = True
        thread.join(120)
        assert not thread.is_alive()
