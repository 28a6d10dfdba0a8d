"""Making a model in a child process: niced, so that answers go first; stopped when nobody listens
any more; gone when its parent is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from pathlib import Path

from h2q.core.errors import H2QError, ResourceError
from h2q.orchestrator.house import WorkEvent
from h2q.orchestrator.jobs import Job, error_of, read_line, write_job

LINE_BYTES = 1 << 20
GRACE_SECONDS = 5.0  # to clean up; what a kill leaves behind, the next one sweeps
ROOT = str(Path(__file__).parents[2])
# Nothing is imported from the folder the parent happens to be in.
BOOT = (
    "import sys; sys.path[:] = [p for p in sys.path if p] + [sys.argv.pop()]; "
    "from h2q.orchestrator.making import main; main()"
)


async def work(job: Job) -> AsyncGenerator[WorkEvent, None]:
    """The steps of a job, the last is `success`. Closing the iterator stops it; what was done by
    then is kept for the next time. Raises what the job raises.
    """
    process, over = await _started(), False
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(write_job(job))
        last = WorkEvent("")
        async for data in process.stdout:
            line = read_line(data)
            if line.fault is not None:
                over = True
                raise error_of(line.fault)
            if line.event is not None:
                yield (last := line.event)
        over = True
        if last.status != "success":
            raise _died(await process.wait())
    finally:
        await asyncio.shield(_end(process, over))


async def _started() -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", BOOT, ROOT, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES
        )
    except OSError as error:
        raise ResourceError(f"No process can be made: {error.strerror or error}.") from error


def _died(code: int) -> H2QError:
    if code < 0:
        named = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return ResourceError(
            f"The process that made the model was ended by {named}.",
            fix="If memory ran out, close other programs. Ask again: it goes on where it was.",
        )
    return H2QError(f"The process that made the model failed with code {code}; its log says more.")


async def _end(process: Process, over: bool) -> None:
    """over: it has said its last and ends by itself."""
    if process.returncode is not None:
        return
    if process.stdin is not None:
        process.stdin.close()
    for number in (0 if over else signal.SIGTERM, signal.SIGKILL):
        # Not by the methods of Process: they reap the child before the loop can.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
            return
