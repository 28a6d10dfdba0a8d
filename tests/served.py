"""`h2q serve` as a person starts it: a process of its own on a free port."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from h2q.crystal.store import Store
from h2q.crystal.store_names import Details

SECONDS = 120.0


@dataclass
class Served:
    """The process, where it listens, and ways to talk to it."""

    process: subprocess.Popen[str]
    address: str
    home: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and bytes. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON."""
        status, data = self.call("POST", path, body)
        return status, json.loads(data) if data else None

    def metric(self, name: str) -> float:
        """The first value of that name; 0 where there is none."""
        for line in self.call("GET", "/metrics")[1].decode().splitlines():
            if line.startswith((name + "{", name + " ")):
                return float(line.rpartition(" ")[2])
        return 0.0

    def state(self) -> Any:
        """What a dashboard sees."""
        return json.loads(self.call("GET", "/api/h2q/state")[1])

    def workers(self) -> list[psutil.Process]:
        """Processes of models, and the one that waits for a model."""
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None and self.call("GET", "/")[0] == 200

    def log(self) -> str:
        return (self.home / "log").read_text()


def until(holds: Callable[[], Any], seconds: float = SECONDS) -> bool:
    """Whether something becomes so in time."""
    late = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > late:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def served(home: Path, *more: str, keys: str = "", seed: Path | None = None) -> Iterator[Served]:
    """Serve what is installed under `home` for as long as the block runs; `seed`: a crystal that
    is installed before.
    """
    home.mkdir(exist_ok=True)
    if seed is not None:
        Store(home).install(seed, "seed", Details())
    command = [sys.executable, "-m", "h2q", "serve", "--port", "0", "--json", *more]
    environment = {**os.environ, "H2Q_HOME": str(home), "H2Q_API_KEYS": keys}
    with (home / "log").open("a") as log, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (home / "log").read_text()
            yield Served(process, json.loads(line)["address"], home)
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
