"""The resource orchestrator: several crystals, one machine, a hard budget of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.cards import ModelCard, RunningModel
from h2q.core.errors import MissingModelError, ResourceError
from h2q.crystal.store import Store
from h2q.orchestrator.following import Follower
from h2q.orchestrator.happenings import Hearer
from h2q.orchestrator.house import Lease, Recipe, Updated, WorkEvent
from h2q.orchestrator.installed import Installed, Shelf
from h2q.orchestrator.jobs import SOURCES
from h2q.orchestrator.manner import Manner
from h2q.orchestrator.resident import Resident
from h2q.orchestrator.residents import Maker, Residents
from h2q.orchestrator.update import HotUpdate
from h2q.orchestrator.uploads import Uploads
from h2q.orchestrator.works import Access, Works, pulled_name
from h2q.runtime.worker import Control, Order, Worker, WorkerState

if TYPE_CHECKING:
    from h2q.runtime.child import Spares

PATIENCE = 10.0  # seconds that answers of a deleted model may take to end


class ResourceOrchestrator:
    """The `Orchestrator` that servers drive: installed models of a store, and workers for those
    that are asked for.

    make: a new worker that was not started; without it processes, one of them kept ready. root:
    the store's folder, H2Q_HOME unless given. access: what pulling and creating may reach.
    Everything that is `async` belongs to one asyncio loop; the rest may be called from any thread.
    """

    def __init__(
        self,
        make: Maker | None = None,
        manner: Manner | None = None,
        root: Path | None = None,
        access: Access | None = None,
    ) -> None:
        self.store = Store(root)
        self.works = Works(self.store, access or Access())
        self.shelf = Shelf(self.store)
        self._spares: Spares | None = None
        self._in_processes = make is None
        self.residents = Residents(make or self._process, manner or Manner())
        self.updates, self.follower = HotUpdate(self), Follower(self)
        self.uploads = Uploads(self.store.root / SOURCES)

    @asynccontextmanager
    async def lease(self, name: str, keep_alive: float | None = None) -> AsyncIterator[Lease]:
        """See `Orchestrator`."""
        began = time.perf_counter()
        self.follower.begin()
        model = self.found(name)
        resident = await self.residents.enter(model, lambda: self._folder(model), keep_alive)
        try:
            assert resident.worker is not None
            seconds = time.perf_counter() - began
            yield Lease(resident.worker, model.card, resident.order, seconds)
        except ResourceError:
            self.residents.suspect(resident)
            raise
        finally:
            self.residents.leave(resident)

    async def unload(self, name: str) -> bool:
        """See `Orchestrator`."""
        resident = self.residents.named(self.found(name))
        if resident is None:
            return False
        await self.residents.unload(resident)
        return True

    async def control(self, name: str, control: Control) -> WorkerState:
        """See `Orchestrator`."""
        resident = self.residents.named(self.found(name))
        if resident is None or not resident.ready:
            raise MissingModelError("The model does not run.", where=name)
        return await self.residents.control(resident, control)

    async def swap(self, name: str, worker: Worker, order: Order) -> None:
        """A worker that was started takes over under an installed name. New leases get it from
        this moment on; streams under way end on the old one, which is stopped with the last of
        them. Install the new crystal under the name first. Raises MissingModelError; the worker is
        the caller's to stop then.
        """
        model = self.shelf.find(name)
        state = await worker.control(Control("status"))
        self.residents.swap(model, worker, order, state)

    def models(self) -> Sequence[ModelCard]:
        """See `Orchestrator`."""
        return [model.card for model in self.shelf.all()]

    def card(self, name: str) -> ModelCard:
        """See `Orchestrator`."""
        return self.shelf.find(name).card

    def running(self) -> Sequence[RunningModel]:
        """See `Orchestrator`."""
        return [resident.running() for resident in self.residents.all()]

    def folder(self, name: str) -> str:
        """See `Orchestrator`."""
        return self._folder(self.shelf.find(name))

    def copy(self, source: str, destination: str) -> None:
        """See `Orchestrator`."""
        self.store.copy(source, destination)

    async def delete(self, name: str) -> None:
        """See `Orchestrator`. Answers of a running model may end first, for ten seconds."""
        model = self.shelf.find(name)
        for resident in self.residents.forget(model.name):
            await self._let_go(resident)
        await asyncio.to_thread(self.store.delete, model.stored.name)

    def pull(self, name: str) -> AsyncIterator[WorkEvent]:
        """See `Orchestrator`."""
        target = str(pulled_name(name))
        return self.updates.around(target, lambda collect: self.works.pull(name, collect))

    def create(self, name: str, recipe: Recipe) -> AsyncIterator[WorkEvent]:
        """See `Orchestrator`."""
        return self.updates.around(name, lambda collect: self.works.create(name, recipe, collect))

    async def replace(self, name: str, crystal: Path) -> Updated:
        """See `Orchestrator`."""
        return await self.updates.replace(name, crystal)

    def has_blob(self, digest: str) -> bool:
        """See `Orchestrator`."""
        return self.uploads.has(digest)

    async def add_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """See `Orchestrator`."""
        return await self.uploads.add(digest, chunks)

    async def close(self, drain: float) -> None:
        """See `Orchestrator`."""
        self.residents.shut()
        await self.follower.close()
        await self.updates.close()
        await self.residents.close(drain)
        if self._spares is not None:
            await self._spares.close()

    def ready(self) -> None:
        """Get a process ready for the next model, where models run in processes of their own and
        none is; returns at once.
        """
        if self._in_processes:
            self._kept().refill()

    def listen(self, hear: Hearer) -> None:
        """See `Orchestrator`."""
        self.residents.tell.hearers.append(hear)

    async def _process(self) -> Worker:
        from h2q.runtime.remote import ProcessWorker

        return ProcessWorker(self._kept())

    def _kept(self) -> Spares:
        from h2q.runtime.child import Spares

        if self._spares is None:
            self._spares = Spares()
        return self._spares

    def found(self, name: str) -> Installed:
        """The model that answers requests for a name. Raises MissingModelError, UsageError."""
        return self.updates.serving(self.shelf.find(name))

    def _folder(self, model: Installed) -> str:
        return str(self.store.folder(model.stored))

    async def _let_go(self, resident: Resident) -> None:
        stopping = self.residents.let_go(resident, "deleted")
        until = time.monotonic() + PATIENCE
        while stopping is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
            stopping = resident.stopping
        if stopping is None:
            stopping = self.residents.let_go(resident, now=True)
        if stopping is not None:
            await asyncio.shield(stopping)
