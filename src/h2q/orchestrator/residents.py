"""Models in memory: loaded once however many ask, kept while they are used and a while longer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from h2q.core.cards import ModelCard
from h2q.core.errors import BusyError, H2QError
from h2q.orchestrator.happenings import Crier, LetGo, Restarted, Why
from h2q.orchestrator.installed import Installed
from h2q.orchestrator.listening import Listener, is_over
from h2q.orchestrator.manner import Manner
from h2q.orchestrator.need import need_of
from h2q.orchestrator.resident import Resident
from h2q.orchestrator.room import Room
from h2q.orchestrator.tasks import Tasks
from h2q.runtime.worker import Control, Order, Worker, WorkerState

LOG = logging.getLogger("h2q.house")
Maker = Callable[[], Awaitable[Worker]]
ENDING = "The server is shutting down."


class Residents:
    """Everything here runs on one loop."""

    def __init__(self, make: Maker, manner: Manner) -> None:
        self.make, self.manner = make, manner
        self.room = Room(manner.budget, manner.room_seconds)
        self._table: dict[str, Resident] = {}
        self._leaving: set[Resident] = set()
        self._tasks = Tasks()
        self.tell = Crier()
        self._listener = Listener(self.all, self._lost, self.tell)
        self._dead: set[str] = set()  # keys of those whose worker died
        self._waiting = 0
        self._seconds = 1.0  # the last loading took
        self._closing = False

    def all(self) -> list[Resident]:
        """Those that can be leased, then those that end with their last user."""
        return [*self._table.values(), *self._leaving]

    def named(self, model: Installed) -> Resident | None:
        """The one that serves this name."""
        return self._table.get(model.key)

    async def enter(
        self, model: Installed, folder: Callable[[], str], keep: float | None
    ) -> Resident:
        """A resident that can answer, with one user more; loaded if it is not there. folder: finds
        the crystal, in a thread. Raises what loading raises, BusyError when too many wait.
        """
        if self._closing:
            raise BusyError(ENDING, retry_after=5.0)
        self._supersede(model)
        resident = self._table.get(model.key)
        if resident is not None and resident.ready and is_over(resident.worker):
            self._lost(resident)
        elif resident is not None and resident.suspect:
            await self._listener.hear(resident)
        resident = self._table.get(model.key)
        if (resident is None or resident.loading) and self._waiting >= self.manner.waiting:
            raise BusyError(
                "Too many requests wait for models to be loaded.",
                fix="Ask again later.",
                retry_after=max(1.0, self._seconds),
            )
        if resident is None:
            resident = self._begin(model, folder)
        self._use(resident, model, keep)
        try:
            if resident.loading is not None:
                self._waiting += 1
                try:
                    await asyncio.shield(resident.loading)
                finally:
                    self._waiting -= 1
        except BaseException:
            self.leave(resident)
            raise
        return resident

    def leave(self, resident: Resident) -> None:
        """One user less."""
        resident.users -= 1
        resident.used = time.monotonic()
        self._settle(resident)

    def let_go(
        self, resident: Resident, why: Why | None = None, now: bool = False
    ) -> asyncio.Task[None] | None:
        """No new leases; it is stopped when nobody uses it, or `now`. The stopping, if it has
        begun.
        """
        if self._table.get(resident.key) is resident:
            del self._table[resident.key]
        if resident.stopping is None:
            resident.gone = True
            resident.why = why or resident.why
            self._leaving.add(resident)
            self._settle(resident)
            if now and resident.stopping is None and resident.loading is None:
                self._stop(resident)
        return resident.stopping

    async def unload(self, resident: Resident) -> None:
        """Stopped when nobody uses it; waits for that only where it is idle."""
        resident.keep, resident.why = 0.0, "asked"
        self._settle(resident)
        if resident.stopping is not None:
            await asyncio.shield(resident.stopping)

    async def control(self, resident: Resident, control: Control) -> WorkerState:
        """A wish about a running model. Raises what the worker raises."""
        assert resident.worker is not None
        state = await resident.worker.control(control)
        self._listener.heard(resident, state)
        return state

    def swap(self, model: Installed, worker: Worker, order: Order, state: WorkerState) -> Resident:
        """A started worker takes the place of the one under a name; answers under way end on the
        old one, new ones begin on the new one from this moment on.
        """
        before = [one for one in self._table.values() if model.name in one.names]
        before += [one for one in (self._table.get(model.key),) if one and one not in before]
        keep = before[0].keep if before else self.manner.keep_alive
        fresh = Resident(model.key, model.card, order, keep, {model.name}, worker, state)
        self.room.hold(fresh, state.budget or order.memory or state.resident)
        for old in before:
            old.names.discard(model.name)
            if old.key == model.key or not old.names:
                fresh.names |= old.names
                self.let_go(old, "replaced")
        self._table[model.key] = fresh
        self._begun(fresh, state)
        return fresh

    def forget(self, name: str) -> list[Resident]:
        """A name is no more; residents that no other name asks for."""
        lost = []
        for one in list(self._table.values()):
            if name in one.names:
                one.names.discard(name)
                if not one.names:
                    lost.append(one)
        return lost

    def suspect(self, resident: Resident) -> None:
        """An answer broke off: look whether the worker is still there, before it is used again."""
        resident.suspect = True
        self._tasks.begin(self._listener.hear(resident))

    def shut(self) -> None:
        """Take no more users."""
        self._closing = True

    async def close(self, drain: float) -> None:
        """Stop all, after their users have left or `drain` seconds have passed."""
        self.shut()
        until = time.monotonic() + drain
        for one in self.all():
            if one.loading is not None:
                one.loading.cancel()
        while any(one.users for one in self.all()) and time.monotonic() < until:
            await asyncio.sleep(min(0.05, max(until - time.monotonic(), 0.0)))
        for one in self.all():
            self.let_go(one, now=True)
        await self._tasks.over()
        await self._listener.close()

    def _supersede(self, model: Installed) -> None:
        """What this name meant before serves it no more."""
        for one in list(self._table.values()):
            if model.name in one.names and one.key != model.key:
                one.names.discard(model.name)
                if not one.names:
                    self.let_go(one, "replaced")

    def _begin(self, model: Installed, folder: Callable[[], str]) -> Resident:
        order = replace(self.manner.order, template=model.stored.details.template)
        made = Resident(model.key, model.card, order, self.manner.keep_alive)
        made.loading = self._tasks.begin(self._load(made, folder))
        self._table[model.key] = made
        return made

    async def _load(self, resident: Resident, folder: Callable[[], str]) -> None:
        began = time.monotonic()
        try:
            order = replace(resident.order, crystal=await asyncio.to_thread(folder))
            budget = await asyncio.to_thread(lambda: self.room.budget)
            need = await asyncio.to_thread(need_of, order, budget)
            await self.room.take(resident, need, self._idle, self._stopped)
            resident.order = need.granted(order, resident.promise)
            resident.worker = await self.make()
            state = await resident.worker.start(resident.order)
        except BaseException as error:
            resident.loading = None
            await self._ended(resident)
            if isinstance(error, asyncio.CancelledError) and self._closing:
                raise BusyError(ENDING, retry_after=5.0) from None  # for those who wait
            raise
        resident.loading = None
        self._seconds = time.monotonic() - began
        resident.used = time.monotonic()
        if resident.key in self._dead:
            self._dead.discard(resident.key)
            self.tell(Restarted(resident.card.name))
        self._begun(resident, state)

    def _begun(self, resident: Resident, state: WorkerState) -> None:
        """It can answer."""
        self._listener.heard(resident, state)
        self._listener.begin(resident)
        self._settle(resident)

    def _lost(self, resident: Resident) -> None:
        """Its worker died."""
        self._dead.add(resident.key)
        resident.why = None
        self.let_go(resident, now=True)

    def _use(self, resident: Resident, model: Installed, keep: float | None) -> None:
        if resident.timer is not None:
            resident.timer.cancel()
            resident.timer = None
        if keep is not None:
            resident.keep = keep
        resident.why = None
        resident.users += 1
        resident.used = time.monotonic()
        resident.names.add(model.name)
        resident.card = _newer(resident, model)

    def _settle(self, resident: Resident) -> None:
        """What happens to a model that nobody uses."""
        if resident.timer is not None:
            resident.timer.cancel()
            resident.timer = None
        if not resident.idle:
            return
        self.room.changed()
        if resident.gone or resident.keep == 0:
            resident.why = resident.why or (None if resident.gone else "idle")
            self._stop(resident)
        elif resident.keep > 0:
            loop = asyncio.get_running_loop()
            resident.timer = loop.call_later(resident.keep, self._expire, resident)

    def _expire(self, resident: Resident) -> None:
        resident.timer = None
        if resident.idle:
            resident.why = "idle"
            self._stop(resident)

    def _idle(self) -> Iterable[Resident]:
        return [one for one in self._table.values() if one.idle]

    def _stop(self, resident: Resident) -> None:
        if resident.stopping is None:
            if resident.why is not None:
                self.tell(LetGo(resident.card.name, resident.why))
            resident.stopping = self._tasks.begin(self._ended(resident))

    async def _stopped(self, resident: Resident) -> None:
        """For the room it takes."""
        resident.why = "budget"
        self._stop(resident)
        assert resident.stopping is not None
        await asyncio.shield(resident.stopping)

    async def _ended(self, resident: Resident) -> None:
        """Nothing of it is left when this returns."""
        if self._table.get(resident.key) is resident:
            del self._table[resident.key]
        self._leaving.add(resident)
        resident.gone = True
        if resident.timer is not None:
            resident.timer.cancel()
        try:
            if resident.worker is not None:
                if not self._closing:
                    await self._listener.last(resident)
                await resident.worker.stop()
        except H2QError as error:
            LOG.warning("A worker of %s ended badly: %s", resident.card.name, error)
        finally:
            resident.worker = None
            self._leaving.discard(resident)
            self.room.give_back(resident)


def _newer(resident: Resident, model: Installed) -> ModelCard:
    """Under which name a model that has several is told of: the first, while it is true."""
    return resident.card if resident.card.name.lower() in resident.names else model.card
