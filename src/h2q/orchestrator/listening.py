"""Hearing from running models how they are, and noticing when one is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from h2q.core.errors import H2QError
from h2q.orchestrator.happenings import Crier, Heard
from h2q.orchestrator.resident import Resident
from h2q.runtime.worker import Control, Worker, WorkerState

LOG = logging.getLogger("h2q.house")
STATUS = Control("status")
LISTEN_SECONDS = 2.0  # between two questions how a running model is
ANSWER_SECONDS = 30.0  # a worker may take to say so before it is taken for dead
LAST_SECONDS = 1.0  # to say how it was, before it is stopped
LATE = {"first token", "full quality"}  # stages of a start that come when it can answer already


class Listener:
    """all: those to be asked. lost: what to do about one whose worker is gone. tell: of what was
    heard.
    """

    def __init__(
        self,
        all_: Callable[[], Iterable[Resident]],
        lost: Callable[[Resident], object],
        tell: Crier,
    ) -> None:
        self._all, self._lost, self._tell = all_, lost, tell
        self._asking: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()

    def begin(self, resident: Resident) -> None:
        """Listen to one more, until it is stopped."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        watch = asyncio.ensure_future(self._watch(resident))
        self._watching.add(watch)
        watch.add_done_callback(self._watching.discard)

    async def hear(self, resident: Resident) -> None:
        """Its state; one that does not answer is lost."""
        if not resident.ready or resident.worker is None:
            return
        try:
            asked = resident.worker.control(STATUS)
            self.heard(resident, await asyncio.wait_for(asked, ANSWER_SECONDS))
            resident.suspect = False
        except (H2QError, asyncio.TimeoutError) as error:
            self._is_lost(resident, error)

    def heard(self, resident: Resident, state: WorkerState) -> None:
        """It has told how it is."""
        resident.state = state
        self._tell(Heard(resident.card.name, state))

    async def last(self, resident: Resident) -> None:
        """Before it is stopped: the stages of its start that were not told yet."""
        worker, state = resident.worker, resident.state
        if worker is None or state is None or is_over(worker):
            return
        if not {event.stage for event in state.timeline} >= LATE:
            with contextlib.suppress(H2QError, asyncio.TimeoutError):
                asked = worker.control(STATUS)
                self.heard(resident, await asyncio.wait_for(asked, LAST_SECONDS))

    async def close(self) -> None:
        """Nobody is asked any more."""
        tasks = [*self._watching, *([self._asking] if self._asking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self) -> None:
        while any(self._all()):
            await asyncio.sleep(LISTEN_SECONDS)
            await asyncio.gather(*map(self.hear, self._all()))

    async def _watch(self, resident: Resident) -> None:
        """A process of its own says by itself when it ends."""
        ended = getattr(resident.worker, "ended", None)
        if ended is not None:
            self._is_lost(resident, await ended())

    def _is_lost(self, resident: Resident, error: BaseException) -> None:
        if resident.ready:
            LOG.warning("The worker of %s is gone: %s", resident.card.name, error)
            self._lost(resident)


def is_over(worker: Worker | None) -> bool:
    """Whether a worker's process has ended, as far as it can be known without asking."""
    return getattr(worker, "process", 0) is None
