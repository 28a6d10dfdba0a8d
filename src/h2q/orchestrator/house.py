"""What a server asks of an orchestrator: models by name, leased for as long as a request runs.

Everything here runs on one asyncio loop; work that blocks is done in threads behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from h2q.core.cards import ModelCard, RunningModel
from h2q.orchestrator.happenings import Hearer
from h2q.runtime.worker import Control, Order, Worker, WorkerState


@dataclass(frozen=True)
class Lease:
    """A running model that stays while the lease is held. load_seconds: waited for it."""

    worker: Worker
    card: ModelCard
    order: Order
    load_seconds: float


@dataclass(frozen=True)
class WorkEvent:
    """A step of pulling or creating a model. `status` as Ollama words it; `digest` of the part it
    is about; `done` of `total` bytes or units, 0 where unknown.
    """

    status: str
    digest: str = ""
    total: int = 0
    done: int = 0


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


@dataclass(frozen=True)
class Recipe:
    """How to create a model: a Modelfile as data, or the body of a request. `base`: a model's name,
    a path or a source; `files`: blobs by file name instead. `template` may be a Go template.
    """

    base: str = ""
    files: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    system: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    license: tuple[str, ...] = ()
    quantize: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Orchestrator(Protocol):
    """Installed models and running ones. Raises MissingModelError for a name that is not
    installed, UsageError for no name at all, BusyError when too many wait, ResourceError when a
    model cannot fit.
    """

    def lease(
        self, name: str, keep_alive: float | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """A model's worker, loaded if it is not. keep_alive: seconds it stays after its last
        request, negative for ever, None as configured. A failed load leaves nothing behind.
        """
        ...

    async def unload(self, name: str) -> bool:
        """Let a model go as soon as nobody uses it; whether it was there."""
        ...

    async def control(self, name: str, control: Control) -> WorkerState:
        """A wish about a running model; it loads none: MissingModelError when it does not run."""
        ...

    def models(self) -> Sequence[ModelCard]:
        """Installed models, the newest first. Wakes nothing."""
        ...

    def card(self, name: str) -> ModelCard:
        """One installed model; names match without regard to case."""
        ...

    def running(self) -> Sequence[RunningModel]:
        """Models in memory or loading, as last heard. Wakes nothing, prolongs nothing."""
        ...

    def listen(self, hear: Hearer) -> None:
        """Be told from now on of what happens to models, on the loop."""
        ...

    def folder(self, name: str) -> str:
        """Where the crystal of an installed model is."""
        ...

    def copy(self, source: str, destination: str) -> None:
        """A second name for a model."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a name, and what no other name needs; a running model is let go first."""
        ...

    def pull(self, name: str) -> AsyncIterator[WorkEvent]:
        """Fetch and crystallize a model, then install it under its name; one that runs under it
        answers until the new one has talked. Closing the iterator stops; what was done is kept for
        the next time.
        """
        ...

    def create(self, name: str, recipe: Recipe) -> AsyncIterator[WorkEvent]:
        """Make a model from a recipe; see `pull`."""
        ...

    async def replace(self, name: str, crystal: Path) -> Updated:
        """Put the crystal in a folder in the place of an installed one; when it has talked, new
        requests go to it, and answers under way end on the old one. Raises CrystalError,
        QualityError; then everything is as it was.
        """
        ...

    def has_blob(self, digest: str) -> bool:
        """Whether `sha256:<64 hex>` was uploaded. Raises UsageError for another form."""
        ...

    async def add_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Take an upload; False where it was there already. Raises UsageError when its hash is not
        the one said, and keeps nothing then.
        """
        ...

    async def close(self, drain: float) -> None:
        """Stop all workers, after answers under way have ended or `drain` seconds have passed."""
        ...
