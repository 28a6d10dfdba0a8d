"""Hot update: another crystal behind a name, while it is being asked.

| step | what happens | when it fails |
|---|---|---|
| store | the new files become the store's, those it has already are there once | they are removed |
| verify | every checksum and invariant of the new crystal | they are removed |
| start | a worker beside the old one, with the planes that the free budget holds | it is stopped |
| probe | it goes on from a text, with sense | it is stopped |
| swap | the name means the new crystal, new requests go to it | the name means the old |
| retire | the old worker ends with its last stream and gives back memory and files | |

Old and new map the same file where a shard is the same, so the system keeps it in memory once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.errors import BusyError, H2QError, ResourceError
from h2q.crystal.store_names import StoredModel
from h2q.orchestrator.happenings import Swapped
from h2q.orchestrator.house import Updated, WorkEvent
from h2q.orchestrator.installed import Installed
from h2q.orchestrator.resident import Resident
from h2q.orchestrator.tasks import Tasks
from h2q.orchestrator.trial import Clock, Trial, verify

if TYPE_CHECKING:
    from h2q.orchestrator.orchestrator import ResourceOrchestrator

Work = Callable[[bool], AsyncGenerator[WorkEvent, None]]  # removes what it replaces, or leaves it
LOG = logging.getLogger("h2q.update")
PROBE = "Once upon a time there was"
WATCH_SECONDS = 2.0
LOOK_SECONDS = 0.05  # between two looks whether the old one has ended
DONE = "success"  # the last step of work


@dataclass
class _Guard:
    """Requests for a name go to `model`, whatever the name means, while `works` are under way."""

    model: Installed
    works: int = 0


class HotUpdate:
    """Updates of a house's models, one after another for each name. Belongs to the house's loop.
    probe: the text a new model must be able to go on from.
    """

    def __init__(self, house: ResourceOrchestrator, probe: str = PROBE) -> None:
        self._house, self._probe = house, probe
        self._turns: dict[str, asyncio.Lock] = {}
        self._guards: dict[str, _Guard] = {}
        self._tasks = Tasks()

    async def replace(self, name: str, crystal: Path) -> Updated:
        """Put the crystal in a folder in the place of the one that is installed under a name.
        Returns when new requests go to it. Where the model does not run, it is tried and installed.

        Raises MissingModelError for a name that is not installed, CrystalError, QualityError when
        the new model's words make no sense, ResourceError or BusyError when there is no room for it
        beside the old one; then everything is as it was.
        """
        found = self._house.shelf.find(name)
        async with self._turn(found.name):
            try:
                with ExitStack() as kept:
                    done = await self._replaced(self._house.shelf.find(name), crystal, kept)
            except BaseException:
                self._tell(found, False)
                await asyncio.shield(self._collect())
                raise
            self._guarded(found.name)
        if done.retired is not None:
            self._tell(found, True)
        return done

    def serving(self, found: Installed) -> Installed:
        """Who answers requests for a name: the model it means, or still the one before, while work
        gives the name to another.
        """
        guard = self._guards.get(found.name)
        return found if guard is None else guard.model

    async def around(self, name: str, work: Work) -> AsyncGenerator[WorkEvent, None]:
        """The steps of work that installs a model. Where one runs under the name, requests go on to
        it until the new one has talked, and the last step comes behind that. Without room for both
        the new one is loaded when the old one's answers have ended. Raises what the work raises,
        and what `replace` does; then the name means what it did.
        """
        old = await asyncio.to_thread(self._known, name)
        runs = old is not None and bool(self._running(old.name))
        async with aclosing(work(not runs)) as steps:
            if old is None or not runs:
                async for step in steps:
                    yield step
                return
            with self._guarding(old) as guard, ExitStack() as kept:
                kept.callback(lambda: self._tasks.begin(self._collect()))
                await asyncio.to_thread(kept.enter_context, self._house.store.lock.shared())
                async for step in steps:
                    if step.status == DONE:
                        async with self._turn(old.name):
                            await self._adopted(old.name, guard, kept)
                    yield step

    @contextmanager
    def _guarding(self, model: Installed) -> Iterator[_Guard]:
        guard = self._guards.setdefault(model.name, _Guard(model))
        guard.works += 1
        try:
            yield guard
        finally:
            guard.works -= 1
            if not guard.works:
                self._guards.pop(model.name, None)

    async def _collect(self) -> None:
        await asyncio.to_thread(self._house.store.collect)

    async def watch(
        self,
        name: str,
        crystal: Path,
        told: Callable[[Updated | H2QError], None] | None = None,
        seconds: float = WATCH_SECONDS,
    ) -> None:
        """Update a name whenever there is another crystal in a folder, until cancelled. What cannot
        be used is told once, and looked at again when it changes.
        """
        seen: tuple[int, int, int] | None = None
        while True:
            now = await asyncio.to_thread(_stamp, crystal)
            if now is not None and now != seen:
                try:
                    outcome: Updated | H2QError = await self.replace(name, crystal)
                except H2QError as error:
                    LOG.warning("The new crystal of %s is not used: %s", name, error)
                    outcome = error
                if not isinstance(outcome, BusyError):  # that is tried again
                    seen = now
                    if told is not None and not _same(outcome):
                        told(outcome)
            await asyncio.sleep(seconds)

    def begin_watch(self, name: str, crystal: Path) -> None:
        """The same in the background, until `close`."""
        self._tasks.begin(self.watch(name, crystal))

    async def close(self) -> None:
        """Waits for no old worker: the house stops those."""
        await self._tasks.cancel()

    def _turn(self, name: str) -> asyncio.Lock:
        return self._turns.setdefault(name, asyncio.Lock())

    def _tell(self, model: Installed, good: bool) -> None:
        told = Swapped(model.card.name, "success" if good else "rolled_back")
        self._house.residents.tell(told)

    def _known(self, name: str) -> Installed | None:
        try:
            return self._house.shelf.find(name)
        except H2QError:
            return None

    def _guarded(self, name: str) -> None:
        """Requests under a guard go to what the name means now."""
        if name in self._guards:
            self._guards[name].model = self._house.shelf.find(name)

    async def _replaced(self, old: Installed, crystal: Path, kept: ExitStack) -> Updated:
        house, clock = self._house, Clock()
        # From here on no file of the old or the new crystal is removed by anybody.
        await asyncio.to_thread(kept.enter_context, house.store.lock.shared())
        details = old.stored.details
        new = await asyncio.to_thread(house.store.prepare, crystal, old.stored.name, details)
        clock.lap("store")
        done = Updated(old.card.name, old.stored.fingerprint, new.fingerprint)
        done.seconds, done.shared = clock.seconds, _shared(old.stored, new)
        if done.before == done.after:
            return done
        await asyncio.to_thread(verify, house.store.folder(new))
        clock.lap("verify")
        trial = await self._placed(old, new)
        await trial.begin(self._probe, clock)
        try:
            done.planes = trial.state.planes
            await trial.lives()
            if house.shelf.find(old.card.name).stored.fingerprint != old.stored.fingerprint:
                raise BusyError("Somebody else has just changed the model.", where=old.card.name)
            self._swap(old, new, trial)
        except BaseException:
            await asyncio.shield(trial.end())
            raise
        if not trial.before:
            await trial.end()
        clock.lap("swap")
        done.retired = self._tasks.begin(self._retire(trial.before, kept.pop_all()))
        return done

    async def _adopted(self, name: str, guard: _Guard, kept: ExitStack) -> None:
        """The name means another model already; its worker, where the old one runs."""
        old, house = guard.model, self._house
        new = await asyncio.to_thread(house.shelf.find, name)
        if new.key == old.key or not self._running(name):
            guard.model = new
            return
        try:
            if new.stored.fingerprint != old.stored.fingerprint:
                await asyncio.to_thread(verify, house.store.folder(new.stored))
            try:
                trial = await self._placed(old, new.stored)
            except (BusyError, ResourceError) as error:
                LOG.warning(
                    "The new model of %s does not begin beside the old one: %s", name, error
                )
                guard.model = new
                return
            await trial.begin(self._probe, Clock())
            try:
                await trial.lives()
                self._swap(old, new.stored, trial)
            except BaseException:
                await asyncio.shield(trial.end())
                raise
            if not trial.before:
                await trial.end()
        except BaseException:
            house.store.give_name(old.stored)
            self._tell(old, False)
            raise
        guard.model = house.shelf.find(name)
        self._tell(old, True)
        self._tasks.begin(self._retire(trial.before, kept.pop_all()))

    async def _placed(self, old: Installed, new: StoredModel) -> Trial:
        folder = await asyncio.to_thread(self._house.store.folder, new)
        trial = Trial(self._house, old, folder, new)
        await trial.take_room()
        return trial

    def _running(self, name: str) -> list[Resident]:
        residents = self._house.residents.all()
        return [one for one in residents if name in one.names and (one.ready or one.loading)]

    def _swap(self, old: Installed, new: StoredModel, trial: Trial) -> None:
        """The name, then the worker, with no other work of the loop between the two."""
        house = self._house
        trial.before = self._running(old.name)
        house.store.give_name(new)
        try:
            found = house.shelf.find(old.card.name)
            if trial.before:
                house.residents.swap(found, trial.worker, trial.order, trial.state)
        except BaseException:
            house.store.give_name(old.stored)
            raise
        house.residents.room.give_back(trial.place)

    async def _retire(self, before: list[Resident], kept: ExitStack) -> None:
        with kept:
            while any(one.gone and one in self._house.residents.all() for one in before):
                await asyncio.sleep(LOOK_SECONDS)
        await self._collect()


def _shared(old: StoredModel, new: StoredModel) -> int:
    """Bytes of the shards of the new one that are the old one's too."""
    known = {file.sha256 for file in old.files if file.name.endswith(".safetensors")}
    return sum(file.bytes for file in new.files if file.sha256 in known)


def _same(outcome: Updated | H2QError) -> bool:
    return isinstance(outcome, Updated) and outcome.before == outcome.after


def _stamp(crystal: Path) -> tuple[int, int, int] | None:
    """Another one when there is another crystal: the manifest is the last thing that is written."""
    from h2q.crystal.manifest import NAME

    try:
        found = (crystal / NAME).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
