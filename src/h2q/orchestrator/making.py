"""The child process that fetches and grows a model: one job on stdin, lines on stdout.

It ends when stdin closes, which it does when the parent is gone, however that went.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import BinaryIO

from h2q.core.errors import Cancelled, H2QError
from h2q.core.events import Progress
from h2q.orchestrator.house import WorkEvent
from h2q.orchestrator.jobs import Fault, Line, fault_of, read_job, write_line

PAUSE = 0.06  # seconds between two lines about the same stage
STEPS = 1000  # of a stage that counts in shares
ORPHAN_SECONDS = 10.0
PULLING = "pulling sha256:"


class Teller:
    """Writes events as lines; of progress only as much as a person can read."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._stage, self._told = "", 0.0

    def say(self, status: str, digest: str = "", total: int = 0, done: int = 0) -> None:
        self.write(Line(WorkEvent(status, digest, total, done)))

    def write(self, line: Line) -> None:
        self._out.write(write_line(line))
        self._out.flush()

    def heard(self, progress: Progress) -> None:
        """A listener for whatever reports progress."""
        now, whole = time.monotonic(), progress.done >= progress.total
        if progress.stage == self._stage and now - self._told < PAUSE and not whole:
            return
        self._stage, self._told = progress.stage, now
        scale = 1.0
        if progress.unit not in ("bytes", "files") and 0 < progress.total < STEPS:
            scale = STEPS / progress.total
        total, done = round(progress.total * scale), round(progress.done * scale)
        if progress.stage.startswith(PULLING):
            digest = progress.stage.removeprefix(PULLING)
            self.say(f"pulling {digest[:12]}", f"sha256:{digest}", total, done)
        else:
            self.say(progress.stage, "", total, done)


def main() -> None:
    """Runs the job on stdin."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # no library may write between our lines
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    teller, code = Teller(out), 0
    try:
        job = read_job(sys.stdin.buffer.readline())
        with contextlib.suppress(OSError):
            os.nice(job.nice)
        threading.Thread(target=_watch, daemon=True).start()
        from h2q.orchestrator.pulling import make

        make(job, teller)
    except H2QError as error:
        code = error.exit_code
        _last(teller, Line(fault=fault_of(error)))
    except MemoryError:
        code = 8
        _last(teller, Line(fault=Fault("ResourceError", "The machine has too little free memory.")))
    except BrokenPipeError:
        code = 141
    os._exit(code)  # threads of libraries may go on without us


def _last(teller: Teller, line: Line) -> None:
    with contextlib.suppress(BrokenPipeError):
        teller.write(line)


def _stop(_signal: int, _frame: object) -> None:
    raise Cancelled("Stopped; what is finished is kept for the next time.")


def _watch() -> None:
    while sys.stdin.buffer.read(1 << 10):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
