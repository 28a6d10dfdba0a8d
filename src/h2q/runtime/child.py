"""Worker processes: made, kept ready, ended.

A child gets one end of a socket pair and ends when the other closes, so that none is left behind
however its parent goes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from h2q.core.errors import ResourceError
from h2q.runtime.frames import LENGTH, Ready, frame_length, reply

READY_SECONDS = 120.0  # a disk may be slow; it is not the model that is waited for
GRACE_SECONDS = 15.0  # to save caches; without them a process is gone at once
CLOSED = "No more models are started here."
ROOT = Path(__file__).parents[2]
# Nothing is imported from the folder the parent happens to be in. No collector while modules load.
BOOT = (
    "import gc, sys; gc.disable(); sys.path[:] = [p for p in sys.path if p]; "
    "sys.path.append(sys.argv.pop()); "
    "from h2q.runtime.worker_process import main; main()"
)


class Child:
    """A worker process that has said it is ready, and the socket to it. Everything here blocks.
    Raises ResourceError when no process can be made.
    """

    def __init__(self, spare: bool = False) -> None:
        mine, theirs = socket.socketpair()
        settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # planes never call a BLAS
        told = [str(theirs.fileno()), *(["spare"] if spare else []), str(ROOT)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, *told],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=settings,
                )
        except OSError as error:
            mine.close()
            raise ResourceError(
                f"No process can be made for a model: {error.strerror or error}."
            ) from error
        self.line = mine
        try:
            self._hear_ready()
        except BaseException:
            self.end(0.0)
            raise

    @property
    def id(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def _hear_ready(self) -> None:
        self.line.settimeout(READY_SECONDS)
        try:
            head = self._exactly(LENGTH.size)
            told = reply(self._exactly(frame_length(head)))
        except OSError as error:
            raise ResourceError(f"A model's process did not begin: {error}.") from error
        if not isinstance(told, Ready):
            raise ResourceError("A model's process did not begin as it should.")
        self.line.settimeout(None)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.line.recv(size - len(data))
            if not part:
                raise OSError(self.reason(GRACE_SECONDS))
            data += part
        return data

    def end(self, grace: float = GRACE_SECONDS) -> None:
        """Close the line and wait until the process is gone; after `grace` seconds it is killed."""
        self.line.close()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reason(self, seconds: float) -> str:
        """How the process ended, waited for at most so long."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "it fell silent"
        if code >= 0:
            return f"it ended with code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"it was ended by {name}"


class Spares:
    """Keeps one process ready in which everything is imported and nothing is loaded, so that a
    model is there as soon as its files are mapped. Begins with the first `refill`.
    """

    def __init__(self) -> None:
        self._maker = ThreadPoolExecutor(1, "spares")
        self._next: Future[Child] | None = None
        self._wanted = threading.Event()
        self._closed = False

    def refill(self, rest: float = 0.0) -> None:
        """Make the next one ready, beside whatever else is going on; not before `rest` seconds,
        unless it is taken meanwhile. Returns at once.
        """
        if self._next is None and not self._closed:
            self._wanted = threading.Event()
            self._next = self._maker.submit(self._made, self._wanted, rest)

    def _made(self, wanted: threading.Event, rest: float) -> Child:
        wanted.wait(rest)
        if self._closed:
            raise ResourceError(CLOSED)
        return Child(spare=True)

    async def take(self) -> Child:
        """The process that is ready, or will be first. `refill` makes the next: when the model has
        said something, so that the two do not compete. Raises ResourceError.
        """
        if self._closed:
            raise ResourceError(CLOSED)
        self.refill()
        made, self._next = self._next, None
        assert made is not None
        self._wanted.set()
        try:
            child = await _waited(made)
        except ResourceError:  # it was killed while it began; a second failure is told
            return await new_child()
        if child.lives:
            return child
        await asyncio.to_thread(child.end, 0.0)  # somebody killed it while it waited
        return await new_child()

    async def close(self) -> None:
        """End the one that waits; returns when it is gone."""
        self._closed = True
        made, self._next = self._next, None
        if made is not None:
            made.add_done_callback(_end)
            self._wanted.set()
        await asyncio.to_thread(self._maker.shutdown)


async def new_child() -> Child:
    """A process for a model that is loaded at once. Raises ResourceError."""
    maker = ThreadPoolExecutor(1, "child")
    made = maker.submit(Child)
    maker.shutdown(wait=False)
    return await _waited(made)


async def _waited(made: Future[Child]) -> Child:
    """Who is cancelled while waiting leaves no process behind."""
    try:
        return await asyncio.shield(asyncio.wrap_future(made))
    except asyncio.CancelledError:
        made.add_done_callback(_end)
        raise


def _end(made: Future[Child]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().end()
