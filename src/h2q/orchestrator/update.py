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
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from h2q.core.asks import Ask
from h2q.core.errors import BusyError, CrystalError, H2QError, QualityError, ResourceError
from h2q.core.sampling_options import SamplingOptions
from h2q.core.units import format_bytes
from h2q.crystal.store_names import StoredModel
from h2q.orchestrator.installed import Installed
from h2q.orchestrator.need import need_of
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.orchestrator.resident import Resident
from h2q.runtime.worker import Control, Order, Worker, WorkerState

LOG = logging.getLogger("h2q.update")
PROBE = "Once upon a time there was"
PROBE_TOKENS = 8
PROBE_SECONDS = 60.0
NOISE = 0.98  # of the entropy of guessing: a model that knows nothing
WATCH_SECONDS = 2.0
LOOK_SECONDS = 0.05  # between two looks whether the old one has ended


@dataclass
class Updated:
    """What an update did, from fingerprint `before` to `after`. `seconds` of each step; `planes`
    that the new worker began with; `shared` bytes of its shards that the old crystal has too.
    `retired` ends when nothing is left of the old.
    """

    name: str
    before: str
    after: str
    planes: int = 0
    shared: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    retired: asyncio.Task[None] | None = None


class HotUpdate:
    """Updates of a house's models, one after another for each name. Belongs to the house's loop.
    probe: the text a new model must be able to go on from.
    """

    def __init__(self, house: ResourceOrchestrator, probe: str = PROBE) -> None:
        self._house, self._probe = house, probe
        self._turns: dict[str, asyncio.Lock] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def replace(self, name: str, crystal: Path) -> Updated:
        """Put the crystal in a folder in the place of the one that is installed under a name.
        Returns when new requests go to it. Where the model does not run, it is tried and installed.

        Raises MissingModelError for a name that is not installed, CrystalError, QualityError when
        the new model's words make no sense, ResourceError or BusyError when there is no room for it
        beside the old one; then everything is as it was.
        """
        found = self._house.shelf.find(name)
        async with self._turns.setdefault(found.name, asyncio.Lock()):
            try:
                with ExitStack() as kept:
                    return await self._replaced(self._house.shelf.find(name), crystal, kept)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(self._house.store.collect))
                raise

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

    async def close(self) -> None:
        """Waits for no old worker: the house stops those."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _replaced(self, old: Installed, crystal: Path, kept: ExitStack) -> Updated:
        house, clock = self._house, _Clock()
        # From here on no file of the old or the new crystal is removed by anybody.
        await asyncio.to_thread(kept.enter_context, house.store.lock.shared())
        details = old.stored.details
        new = await asyncio.to_thread(house.store.prepare, crystal, old.stored.name, details)
        clock.lap("store")
        done = Updated(old.card.name, old.stored.fingerprint, new.fingerprint)
        done.seconds, done.shared = clock.seconds, _shared(old.stored, new)
        if done.before == done.after:
            return done
        await asyncio.to_thread(_verify, house.store.folder(new))
        clock.lap("verify")
        trial = await self._tried(old, new, clock)
        try:
            done.planes = trial.state.planes
            await self._swap(old, new, trial)
        except BaseException:
            await asyncio.shield(trial.end())
            raise
        clock.lap("swap")
        done.retired = asyncio.ensure_future(self._retire(trial.before, kept.pop_all()))
        self._retiring.add(done.retired)
        done.retired.add_done_callback(self._retiring.discard)
        return done

    async def _tried(self, old: Installed, new: StoredModel, clock: _Clock) -> _Trial:
        """A worker of the new crystal that is known to talk."""
        house = self._house
        folder = await asyncio.to_thread(house.store.folder, new)
        template = new.details.template
        order = replace(house.residents.manner.order, crystal=str(folder), template=template)
        trial = _Trial(house, old, order)
        await trial.take_room()
        try:
            trial.worker = await house.residents.make()
            trial.state = await trial.worker.start(trial.order)
            clock.lap("start")
            await asyncio.wait_for(self._talks(trial), PROBE_SECONDS)
            clock.lap("probe")
        except BaseException as error:
            await asyncio.shield(trial.end())
            if isinstance(error, asyncio.TimeoutError):
                raise QualityError("The new model fell silent over its probe.") from error
            raise
        return trial

    async def _talks(self, trial: _Trial) -> None:
        sampling = SamplingOptions(temperature=0, max_tokens=PROBE_TOKENS)
        entropies = []
        ask = Ask(prompt=self._probe, raw=True, sampling=sampling)
        async for event in trial.worker.generate(ask):
            if event.token < 0:
                break
            if not (math.isfinite(event.logprob) and math.isfinite(event.entropy)):
                raise QualityError("The new model's words have no probability: it is damaged.")
            entropies.append(event.entropy)
        vocabulary = math.log(await asyncio.to_thread(_vocabulary, trial.order))
        if entropies and sum(entropies) > NOISE * vocabulary * len(entropies):
            raise QualityError("The new model guesses every word: it has learned nothing.")

    async def _swap(self, old: Installed, new: StoredModel, trial: _Trial) -> None:
        """The name, then the worker, with no other work of the loop between the two."""
        house = self._house
        trial.state = await trial.worker.control(Control("status"))  # it has not died meanwhile
        if house.shelf.find(old.card.name).stored.fingerprint != old.stored.fingerprint:
            raise BusyError("Somebody else has just changed the model.", where=old.card.name)
        trial.before = [one for one in house.residents.all() if old.name in one.names]
        running = any(one.ready or one.loading for one in trial.before)
        house.store.give_name(new)
        try:
            found = house.shelf.find(old.card.name)
            if running:
                house.residents.swap(found, trial.worker, trial.order, trial.state)
        except BaseException:
            house.store.give_name(old.stored)
            raise
        house.residents.room.give_back(trial.place)
        if not running:
            await trial.end()

    async def _retire(self, before: list[Resident], kept: ExitStack) -> None:
        with kept:
            while any(one.gone and one in self._house.residents.all() for one in before):
                await asyncio.sleep(LOOK_SECONDS)
        await asyncio.to_thread(self._house.store.collect)


class _Trial:
    """A worker on its way into a house, and its place in the budget."""

    worker: Worker
    state: WorkerState

    def __init__(self, house: ResourceOrchestrator, old: Installed, order: Order) -> None:
        self._house, self.order = house, order
        self.place = Resident(old.key, old.card, order, 0.0)
        self.before: list[Resident] = []

    async def take_room(self) -> None:
        """What it needs, or what is free when that holds the base planes at least. Nobody is sent
        away for it.
        """
        room = self._house.residents.room
        need = await asyncio.to_thread(need_of, self.order, room.budget)
        size = min(need.most, room.free)
        if need.least > size:
            raise (ResourceError if need.least > room.budget else BusyError)(
                f"The new model needs {format_bytes(need.least)} beside the old one; "
                f"{format_bytes(max(room.free, 0))} are free.",
                where=self.place.card.name,
                fix="Update it when less is running, or give the server more memory.",
            )
        room.hold(self.place, size)
        self.order = need.granted(self.order, size)

    async def end(self) -> None:
        """Nothing of it is left."""
        try:
            if hasattr(self, "worker"):
                await self.worker.stop()
        finally:
            self._house.residents.room.give_back(self.place)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now


def _verify(crystal: Path) -> None:
    from h2q.crystal.verify import verify_crystal

    for check in verify_crystal(crystal):
        if not check.ok:
            raise CrystalError(
                f"The new crystal is not sound: {check.detail}",
                where=check.name,
                fix="Grow or copy it again; the old one goes on.",
            )


def _vocabulary(order: Order) -> int:
    from h2q.crystal.manifest import read_manifest

    return read_manifest(Path(order.crystal)).spec.vocab_size


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
