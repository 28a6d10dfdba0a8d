"""A new crystal on trial in a house: beside the old one, within the budget, until it has talked."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.asks import Ask
from h2q.core.errors import BusyError, CrystalError, QualityError, ResourceError
from h2q.core.sampling_options import SamplingOptions
from h2q.core.units import format_bytes
from h2q.crystal.store_names import StoredModel
from h2q.orchestrator.installed import Installed
from h2q.orchestrator.need import need_of
from h2q.orchestrator.resident import Resident
from h2q.runtime.worker import Control, Order, Worker, WorkerState

if TYPE_CHECKING:
    from h2q.orchestrator.orchestrator import ResourceOrchestrator

PROBE_TOKENS = 8
PROBE_SECONDS = 60.0
NOISE = 0.98  # of the entropy of guessing: a model that knows nothing


class Trial:
    """A worker on its way into a house, and its place in the budget."""

    worker: Worker
    state: WorkerState

    def __init__(
        self, house: ResourceOrchestrator, old: Installed, crystal: Path, new: StoredModel
    ) -> None:
        manner = house.residents.manner.order
        self.order = replace(manner, crystal=str(crystal), template=new.details.template)
        self.place = Resident(old.key, old.card, self.order, 0.0)
        self.before: list[Resident] = []
        self._house = house

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

    async def begin(self, probe: str, clock: Clock) -> None:
        """Start it, and prove that it talks. Raises what starting raises, QualityError; nothing is
        left of it then.
        """
        try:
            self.worker = await self._house.residents.make()
            self.state = await self.worker.start(self.order)
            clock.lap("start")
            await asyncio.wait_for(self._talks(probe), PROBE_SECONDS)
            clock.lap("probe")
        except BaseException as error:
            await asyncio.shield(self.end())
            if isinstance(error, asyncio.TimeoutError):
                raise QualityError("The new model fell silent over its probe.") from error
            raise

    async def lives(self) -> None:
        """Hear how it is. Raises ResourceError when it has died meanwhile."""
        self.state = await self.worker.control(Control("status"))

    async def end(self) -> None:
        """Nothing of it is left."""
        try:
            if hasattr(self, "worker"):
                await self.worker.stop()
        finally:
            self._house.residents.room.give_back(self.place)

    async def _talks(self, probe: str) -> None:
        sampling = SamplingOptions(temperature=0, max_tokens=PROBE_TOKENS)
        entropies = []
        ask = Ask(prompt=probe, raw=True, sampling=sampling)
        async for event in self.worker.generate(ask):
            if event.token < 0:
                break
            if not (math.isfinite(event.logprob) and math.isfinite(event.entropy)):
                raise QualityError("The new model's words have no probability: it is damaged.")
            entropies.append(event.entropy)
        vocabulary = math.log(await asyncio.to_thread(_vocabulary, self.order))
        if entropies and sum(entropies) > NOISE * vocabulary * len(entropies):
            raise QualityError("The new model guesses every word: it has learned nothing.")


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """A step has ended."""
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now


def verify(crystal: Path) -> None:
    """Every checksum and invariant. Raises CrystalError."""
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
