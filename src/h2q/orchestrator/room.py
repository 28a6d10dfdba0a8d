"""The byte budget: who holds how much of it, and how room is made for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from h2q.core.errors import BusyError, ResourceError
from h2q.core.units import format_bytes
from h2q.orchestrator.need import Need
from h2q.orchestrator.resident import Resident

SPARE_SHARE = 0.8  # of the memory that is free when the first model is loaded


class Room:
    """Promises that together never exceed `budget` bytes. One at a time looks for room, in the
    order they came.
    """

    def __init__(self, budget: int | None, wait_seconds: float) -> None:
        self._budget, self._wait = budget, wait_seconds
        self._held: dict[Resident, int] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def budget(self) -> int:
        """Bytes for all models together; measured once where it was not given."""
        if self._budget is None:
            from h2q.core.memory import free_bytes

            self._budget = int(free_bytes() * SPARE_SHARE)
        return self._budget

    @property
    def free(self) -> int:
        return self.budget - sum(self._held.values())

    def hold(self, resident: Resident, size: int) -> None:
        """A promise that is not asked for: of a model that takes the place of another."""
        self._held[resident] = resident.promise = size

    def give_back(self, resident: Resident) -> None:
        self._held.pop(resident, None)
        self.changed()

    def changed(self) -> None:
        """Something was given back, or became idle."""
        self._changed.set()

    async def take(
        self,
        resident: Resident,
        need: Need,
        idle: Callable[[], Iterable[Resident]],
        stop: Callable[[Resident], Awaitable[None]],
    ) -> None:
        """Promise a model what it needs: all of it, or what there is when every other model is
        at work and the base planes fit. Idle ones are stopped for it, the least recently used
        first. Raises ResourceError when even the empty house is too small, BusyError when the
        others work for too long.
        """
        budget = self.budget
        if need.least > budget:
            raise ResourceError(
                f"The model needs {format_bytes(need.least)} of memory at least; "
                f"{format_bytes(budget)} may be used.",
                where=resident.card.name,
                fix="Give the server more memory, or take a smaller model.",
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait
        async with self._turn:
            while True:
                if need.most <= self.free:
                    return self.hold(resident, need.most)
                victim = min(idle(), key=lambda one: one.rank, default=None)
                if victim is not None:
                    await stop(victim)
                    continue
                if need.least <= self.free:
                    return self.hold(resident, self.free)
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), max(until - loop.time(), 0))
                except asyncio.TimeoutError:
                    raise BusyError(
                        "The models that are at work leave no memory for this one.",
                        where=resident.card.name,
                        fix="Ask again later, or stop one of them.",
                        retry_after=self._wait,
                    ) from None
