"""A worker's own process: `python -m h2q.runtime.worker_process FD`, where FD is an inherited
socket that nobody else can reach. It ends when the other side closes. With `spare` behind FD, it
imports all that a first answer needs before it says that it is ready.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from h2q.core.errors import H2QError, UsageError
from h2q.core.events import TokenEvent
from h2q.runtime.frames import (
    LENGTH,
    Cancel,
    Count,
    Counted,
    Embed,
    Events,
    Generate,
    Question,
    Ready,
    Reply,
    Start,
    State,
    Took,
    Vectors,
    Wish,
    failed,
    frame,
    frame_length,
    question,
)
from h2q.runtime.reading import Going
from h2q.runtime.service import Service
from h2q.runtime.worker import WorkerState


class Line:
    """The socket to the parent, written by several threads. Writing waits for a parent that is
    slow, and so does the model: nothing piles up here.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line, self._lock = line, threading.Lock()

    def send(self, message: Reply) -> None:
        data = frame(message)
        with self._lock:
            self._line.sendall(data)

    def receive(self, size: int) -> bytes | None:
        """Exactly so many bytes; None when the other side has closed."""
        data = bytearray()
        while len(data) < size:
            part = self._line.recv(min(size - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)


class Served:
    """Answers the parent's questions over one line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._service: Service | None = None
        self._going: dict[int, Going] = {}
        self._gone: set[int] = set()
        self._lock = threading.Lock()
        self._step: list[tuple[int, list[TokenEvent]]] = []
        self._asking = ThreadPoolExecutor(1, "asking")  # asks begin in the order they came
        self._slow = ThreadPoolExecutor(1, "slow")
        self._wishes = ThreadPoolExecutor(1, "wishes")

    def take(self, asked: Question) -> None:
        """Begin what is asked; the reply follows."""
        if isinstance(asked, Cancel):
            self._cancel(asked.id)
        elif isinstance(asked, Took):
            going = self._going.get(asked.id)
            if going is not None:
                going.took(asked.count)
        elif isinstance(asked, Embed):
            self._slow.submit(self._try, asked)
        elif isinstance(asked, Wish):
            self._wishes.submit(self._try, asked)
        else:
            self._asking.submit(self._try, asked)

    def _try(self, asked: Question) -> None:
        try:
            self._do(asked)
        except OSError:
            pass  # the parent is gone, and this process with it
        except Exception as error:
            self._line.send(failed(asked.id, error))

    def _do(self, asked: Question) -> None:
        if isinstance(asked, Start):
            self._line.send(State(asked.id, self._start(asked)))
            return
        service = self._service
        if service is None:
            raise UsageError("The worker has no model yet.")
        if isinstance(asked, Generate):
            self._generate(service, asked)
        elif isinstance(asked, Embed):
            self._line.send(Vectors(asked.id, service.embed(asked.ask)))
        elif isinstance(asked, Count):
            self._line.send(Counted(asked.id, service.count(asked.ask)))
        elif isinstance(asked, Wish):
            self._line.send(State(asked.id, service.control(asked.control)))

    def _start(self, asked: Start) -> WorkerState:
        if self._service is not None:
            raise UsageError("The worker has a model already.")
        if asked.order.threads is not None:
            from h2q.kernels import set_threads

            set_threads(asked.order.threads)
        service = Service(asked.order)
        gc.freeze()  # what is here now stays: no collection need look at it again
        gc.enable()
        service.hook = self._flush
        self._service = service
        return service.state()

    def _generate(self, service: Service, asked: Generate) -> None:
        call, ended = asked.id, False

        def read(events: list[TokenEvent], error: H2QError | None) -> None:
            nonlocal ended
            if events:
                self._step.append((call, events))
            if error is not None or events[-1].finish:
                with self._lock:
                    ended = True
                    self._going.pop(call, None)
            if error is not None:
                self._flush()
                self._send(failed(call, error))

        going = service.submit(asked.ask, read)
        with self._lock:
            if ended:
                return
            if call not in self._gone:
                self._going[call] = going
                return
            self._gone.discard(call)
        going.cancel()

    def _flush(self) -> None:
        """All that the last step said, as one message."""
        if self._step:
            step, self._step = self._step, []
            self._send(Events(0, step))

    def _send(self, message: Reply) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the end is near
            self._line.send(message)

    def close(self) -> None:
        """Keep what is worth keeping; the rest goes with the process."""
        if self._service is not None and self._service.warm is not None:
            self._service.close()

    def _cancel(self, call: int) -> None:
        with self._lock:
            going = self._going.pop(call, None)
            if going is None:
                self._gone.add(call)
                self._asking.submit(self._gone.discard, call)  # behind the ask, if one waits
        if going is not None:
            going.cancel()


def serve(line: socket.socket) -> None:
    """Until the other side closes, or breaks the rules of the line."""
    wire = Line(line)
    served = Served(wire)
    wire.send(Ready(0))
    try:
        while (head := wire.receive(LENGTH.size)) is not None:
            data = wire.receive(frame_length(head))
            if data is None:
                return
            served.take(question(data))
    finally:
        served.close()


def prepare() -> None:
    """Import what is otherwise imported beside the loading of a model, or with the first ask."""
    import numpy.random  # noqa: F401

    import h2q.runtime.expert_budget
    import h2q.text.template
    import h2q.text.tokenizer  # noqa: F401


def main() -> None:
    """Ends without ceremony: memory goes back with the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    code = 0
    try:
        name, *more = sys.argv[1:] or ("",)
        if not name.isdecimal():
            raise UsageError("A worker process is started by its parent, which gives it a socket.")
        line = socket.socket(fileno=int(name))
        line.set_inheritable(False)
        if "spare" in more:
            prepare()
            gc.collect()
            gc.freeze()
        serve(line)
    except H2QError as error:
        print(f"worker: {error}", file=sys.stderr, flush=True)  # noqa: T201
        code = error.exit_code
    except OSError:
        pass
    os._exit(code)


if __name__ == "__main__":
    main()
