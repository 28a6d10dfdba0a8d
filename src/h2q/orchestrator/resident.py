"""A model in memory, or on its way there."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from h2q.core.cards import ModelCard, RunningModel
from h2q.orchestrator.happenings import Why
from h2q.runtime.worker import Order, Worker, WorkerState


@dataclass(eq=False)
class Resident:
    """`names`: lower-case names it was asked for by. keep: seconds it stays idle, negative for
    ever. users: leases held and wished for. promise: bytes taken of the budget. loading: until it
    can answer. gone: it takes no more leases and ends with its last. why: it is let go; None where
    it died or the house closes.
    """

    key: str
    card: ModelCard
    order: Order
    keep: float
    names: set[str] = field(default_factory=set)
    worker: Worker | None = None
    state: WorkerState | None = None
    promise: int = 0
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    loading: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    suspect: bool = False
    gone: bool = False
    why: Why | None = None
    stopping: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self.worker is not None and self.loading is None and self.stopping is None

    @property
    def idle(self) -> bool:
        """It may be stopped without anybody noticing."""
        return self.ready and self.users == 0

    @property
    def rank(self) -> tuple[bool, float]:
        """Who goes first when room is needed: the least recently used, those wanted for ever
        last.
        """
        return self.keep < 0, self.used

    def running(self) -> RunningModel:
        """As last heard."""
        state, now = self.state, time.time()
        expires: float | None = None
        if self.keep >= 0:
            idle = time.monotonic() - self.used if self.users == 0 else 0.0
            expires = now + max(self.keep - idle, 0.0)
        return RunningModel(
            card=self.card,
            resident=state.resident if state else 0,
            budget=self.promise,
            planes=state.planes if state else 0,
            all_planes=state.all_planes if state else 0,
            context_length=state.context_length if state else self.card.context_length,
            expires=now if self.gone else expires,
            running=state.running if state else 0,
            waiting=state.waiting if state else self.users,
        )
