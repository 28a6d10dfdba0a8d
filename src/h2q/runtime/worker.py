"""Worker: one model, one process; the protocol that a server, an orchestrator and later a cluster
drive.

A worker answers asks with token events. The same calls work on a model in this process and, over
frames on a local socket, on one in another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.events import StageEvent, TokenEvent
from h2q.core.expert_tally import ExpertTally

AHEAD = 256  # events that may lie unread before an answer rests
SHARE = 64  # events after which a reader says that it took them
ENDED = "The model was stopped."


@dataclass(frozen=True)
class Order:
    """What a worker is to keep alive: a crystal's folder, and how.

    memory: bytes its process may have resident, None for no promise. groups: refinement groups to
    bring in, None for all. cache: kind of pages of keys and values. context: positions that the
    cache can hold at once, None for the model's own limit. streams: at once, at most. draft:
    tokens that the base planes guess ahead. threads: of the kernels, None as the machine has.
    template: instead of the crystal's own. warm: a folder of at most `warm_bytes` where caches of
    conversations outlive the process (what was said can be read from them); None: nowhere.
    """

    crystal: str
    memory: int | None = None
    groups: int | None = None
    cache: str = "k8v8"
    context: int | None = None
    streams: int = 32
    draft: int = 0
    threads: int | None = None
    template: str | None = None
    warm: str | None = None
    warm_bytes: int = 4 << 30


@dataclass(frozen=True)
class Control:
    """A wish about a running model: "status", "pin" (planes, None to let go), "refine" (bring in
    all planes), "drop" (give back one plane), "forget" (drop saved prefixes).
    """

    wish: str
    planes: int | None = None


@dataclass(frozen=True)
class WorkerState:
    """Of a worker now. Bytes: `resident` of the process, `weights`, `cache` (keys and values in
    use) and `cache_capacity`, `scratch`; `budget` is 0 without a promise. `planes` of `all_planes`
    take part; `pinned` when they are fixed. `pressure` from 0 (none) to 3. `timeline`: how the
    start went. `restored`: beginnings that were read back from disk. `experts`: where not all are
    in memory.
    """

    fingerprint: str
    process: int
    planes: int
    all_planes: int
    pinned: bool
    context_length: int
    running: int
    waiting: int
    resident: int
    weights: int
    cache: int
    cache_capacity: int
    scratch: int
    budget: int
    pressure: int
    prefix_hits: int
    timeline: tuple[StageEvent, ...] = ()
    restored: int = 0
    experts: ExpertTally | None = None


class Worker(Protocol):
    """One model, kept alive. Every call raises the H2QError that the work raised, also from another
    process, and ResourceError when that process is gone.
    """

    async def start(self, order: Order) -> WorkerState:
        """Load a model: returns when it can answer; planes go on coming in behind it."""
        ...

    def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        """Answer an ask: events in order, the last one has `finish` and `usage`. Closing the
        iterator cancels within one step of the model.
        """
        ...

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        """Turn texts into vectors."""
        ...

    async def count(self, ask: Ask) -> int:
        """Tokens that the prompt of an ask has, templates applied."""
        ...

    async def control(self, control: Control) -> WorkerState:
        """Fulfil a wish and tell the state. Wakes nothing and waits for no token."""
        ...

    async def stop(self) -> None:
        """End it; answers under way end with "error". Its memory is free when this returns."""
        ...
