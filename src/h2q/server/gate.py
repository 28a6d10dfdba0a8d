"""The gate: how many requests may be in the house at once, who must come back later, and the way
out when the server is to end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType

from h2q.server.limits import Limits
from h2q.server.refusal import Refusal, retry_after

BUSY = "server busy, please try again.  maximum pending requests exceeded"  # as Ollama says it


class Gate:
    """Counts requests that a model works on. `waiting` have no token yet, `running` have."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self.waiting = self.running = self.refused = 0
        self.draining = False

    def enter(self, client: str) -> Place:
        """A place for one request. Raises Refusal: 503 when all places to wait are taken or the
        server is ending, 429 when this client has too many requests.
        """
        if self.draining:
            raise Refusal(503, "the server is shutting down", headers=(retry_after(5),))
        if self.waiting >= self._limits.queue:
            self.refused += 1
            numbers = f" ({self.waiting} of {self._limits.queue} wait, {self.running} run)"
            raise Refusal(503, BUSY + numbers, headers=(retry_after(self._seconds()),))
        most = self._limits.per_client
        if most and self._clients[client] >= most:
            self.refused += 1
            words = f"too many requests at once from this client ({most} of {most})"
            raise Refusal(429, words, headers=(retry_after(1),))
        return Place(self, client)

    def _seconds(self) -> float:
        """A long queue is a long wait; nobody knows how long."""
        return min(60.0, 1.0 + self.waiting / 64)

    async def drain(self, seconds: float) -> bool:
        """Let nobody in any more; whether all left within that time."""
        self.draining = True
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _moved(self) -> None:
        if self.waiting or self.running:
            self._empty.clear()
        else:
            self._empty.set()

    def _enter(self, client: str) -> None:
        self.waiting += 1
        self._clients[client] += 1
        self._moved()

    def _leave(self, client: str) -> None:
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]
        self._moved()


class Place:
    """One request's place, as a context."""

    def __init__(self, gate: Gate, client: str) -> None:
        self._gate, self._client, self._begun = gate, client, False

    def __enter__(self) -> Place:
        self._gate._enter(self._client)
        return self

    def begin(self) -> None:
        """The first token is there: it waits no longer."""
        if not self._begun:
            self._begun = True
            self._gate.waiting -= 1
            self._gate.running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun:
            self._gate.running -= 1
        else:
            self._gate.waiting -= 1
        self._gate._leave(self._client)
