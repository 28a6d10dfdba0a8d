"""Workers in this process that are counted, and that can die like a process of their own."""

from __future__ import annotations

from dataclasses import replace

from h2q.runtime import LocalWorker
from h2q.runtime.worker import Order, WorkerState


class CountedWorker(LocalWorker):
    """alive, made: of all. A promise of memory is about a whole process, and this one is shared:
    it is passed over.
    """

    alive = 0
    made = 0

    def __init__(self) -> None:
        super().__init__()
        self._counted = False
        CountedWorker.made += 1

    async def start(self, order: Order) -> WorkerState:
        state = await super().start(replace(order, memory=None))
        self._counted = True
        CountedWorker.alive += 1
        return state

    async def stop(self) -> None:
        await super().stop()
        if self._counted:
            self._counted = False
            CountedWorker.alive -= 1

    die = stop
