"""`h2q serve` as a person starts it: how soon it answers, and the seed's crystal before a crowd."""

from __future__ import annotations

import fcntl
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from h2q.bench.serve_client import OLLAMA, SILENT_SECONDS, START_SECONDS, Child, until_up
from h2q.core import settings
from h2q.core.errors import ResourceError
from h2q.core.events import ProgressListener, silent
from h2q.crystal.store import Store
from h2q.crystal.store_names import Details
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.sources import open_source

SEED = Path(__file__).parents[1] / "assets" / "seed"
MODEL = "seed"
BITS = 4.0  # of the crystal that is grown where none is given
STARTS = 5
LOOK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def home(crystal: Path | None, listen: ProgressListener = silent) -> Iterator[Path]:
    """A store with the model `seed`: the crystal given, or one grown for this. Raises what growing
    and installing raise.
    """
    with tempfile.TemporaryDirectory() as folder:
        if crystal is None:
            crystal = Path(folder) / "seed.crystal"
            options = Options(bits=BITS)
            ModelCrystallizationEngine(open_source(SEED), options).grow(crystal, progress=listen)
        Store(Path(folder) / "home").install(crystal, MODEL, Details())
        yield Path(folder) / "home"


@contextmanager
def product(root: Path) -> Iterator[Child]:
    """`h2q serve` over a store, ended with the block. Raises ResourceError."""
    command = [sys.executable, "-m", "h2q", "serve", "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=settings.with_home(root),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise ResourceError("`h2q serve` did not start.")
            yield Child(process, int(json.loads(line)["address"].rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def worker_of(server: Child) -> psutil.Process:
    """The process of the one model that runs: the child with the most processor time."""
    children = psutil.Process(server.process.pid).children()
    return max(children, key=lambda child: sum(child.cpu_times()[:2]))


def starts(root: Path) -> tuple[list[float], list[float], list[float]]:
    """Seconds from the start of a process: until Python has done nothing, until `h2q serve`
    listens, until it has answered a request.
    """
    nothing, listening, answered = list[float](), list[float](), list[float]()
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        nothing.append(time.perf_counter() - began)
        with socket.socket() as probe:  # a port that is free, so that it is known beforehand
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        began = time.perf_counter()
        command = [sys.executable, "-m", "h2q", "serve", "--port", str(port), "--quiet"]
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env=settings.with_home(root)
        ) as process:
            try:
                until_up(port)
                listening.append(time.perf_counter() - began)
                with socket.create_connection(("127.0.0.1", port), SILENT_SECONDS) as connection:
                    connection.sendall(LOOK)
                    if not connection.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                        raise ResourceError("`h2q serve` does not say that it runs.")
                answered.append(time.perf_counter() - began)
            finally:
                process.terminate()
                process.wait(START_SECONDS)
    return nothing, listening, answered


def sent_after_leaving(server: Child, leaves: int) -> list[int]:
    """Tokens that were sent after clients had closed their side of the connection: a client that
    has only done that can count what is sent to nobody. A client that something reached in the
    very moment it closed cannot tell which came first, and tries again.
    """
    counts = list[int]()
    while len(counts) < leaves:
        with server.connect(OLLAMA.request(MODEL, 900)) as connection:
            wanted, before = 5 + len(counts) % 5, b""
            while before.count(OLLAMA.piece) < wanted:
                piece = connection.recv(1 << 16)
                if not piece:
                    raise ResourceError("An answer ended before its client left.")
                before += piece
            come = _waiting(connection)
            connection.shutdown(socket.SHUT_WR)
            if _waiting(connection) != come:
                continue
            while come:  # what had come before does not count
                come -= len(connection.recv(come))
            after = b""
            while piece := connection.recv(1 << 16):
                after += piece
            counts.append(after.count(OLLAMA.piece))
            if OLLAMA.end in after:
                raise ResourceError("An answer went on to its end after its client had left.")
    return counts


def _waiting(connection: socket.socket) -> int:
    """Bytes that have come and were not read."""
    count = array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, count)
    return count[0]


def middle(seconds: list[float]) -> float:
    """The median."""
    return statistics.median(seconds)
