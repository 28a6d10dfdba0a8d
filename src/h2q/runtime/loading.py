"""What a started model is to those who run it, and reading its tokenizer beside everything else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from h2q.codec.pages import PAGE
from h2q.core.errors import H2QError
from h2q.core.events import StageEvent
from h2q.core.expert_tally import ExpertTally
from h2q.crystal import Crystal
from h2q.crystal.manifest import NAME
from h2q.engine.drafts import Drafter
from h2q.engine.model import Model
from h2q.engine.page_pool import PagePool
from h2q.runtime.pool import MemoryPool, page_bytes
from h2q.runtime.worker import Order

if TYPE_CHECKING:  # its library takes as long to load as all the rest: beside it, in a thread
    from h2q.text.tokenizer import Tokenizer


class Started(Protocol):
    """A model that can answer, and whose planes may change between two steps."""

    model: Model
    tokenizer: Tokenizer
    timeline: list[StageEvent]
    drafter: Drafter | None
    fingerprint: str
    budget: int
    order: Order
    """As it was made to fit its memory."""
    rows: int
    """Of a step, at most."""
    memory: MemoryPool
    warning: str
    """What a person should know before using it; often nothing."""
    wake: Callable[[], None] | None
    """Called, from any thread, when there is something to do between two steps."""

    @property
    def pinned(self) -> bool: ...

    @property
    def pressure(self) -> int:
        """From 0 (none) to 3."""
        ...

    @property
    def planes(self) -> int:
        """Coded planes that take part, the base plane included."""
        ...

    @property
    def all_planes(self) -> int: ...

    @property
    def weights(self) -> int:
        """Bytes of the planes that take part."""
        ...

    @property
    def experts(self) -> ExpertTally | None:
        """What keeping experts on disk has cost, where some are."""
        ...

    @property
    def refined(self) -> int:
        """Bytes of refinement that came in so far."""
        ...

    def chat_template(self) -> str | None: ...

    def between_steps(self) -> bool:
        """Switch planes that are ready or must go; whether any changed."""
        ...

    def pin(self, planes: int | None) -> None:
        """Fix the planes, or let them go; from the next step on."""
        ...

    def drop(self) -> None:
        """Give one plane back."""
        ...

    def refine(self) -> None:
        """Bring in all planes."""
        ...

    def spoke(self) -> None:
        """Tokens were said in the step that ended."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class TokenizerReading:
    """A tokenizer being read in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: Tokenizer | None = None
        self._error: H2QError | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        from h2q.text.tokenizer import Tokenizer

        try:
            self._made = Tokenizer(self._path)
        except H2QError as error:
            self._error = error

    def result(self) -> Tokenizer:
        self._thread.join()
        if self._made is None:
            raise self._error or H2QError("The tokenizer could not be read.")
        return self._made


def fingerprint(crystal: Crystal) -> str:
    """sha256 of crystal.json, which holds those of all shards: hex."""
    return hashlib.sha256((crystal.path / NAME).read_bytes()).hexdigest()


def cache_pages(started: Started) -> PagePool:
    """The pages that a model's order asks for, in an arena of their own. Raises ResourceError when
    they do not fit.
    """
    spec, order = started.model.spec, started.order
    count = -(-(order.context or spec.max_position_embeddings) // PAGE)
    arena = started.memory.arena("cache", count * page_bytes(spec, order.cache))
    return PagePool(spec, count, order.cache, arena.array)
