"""From an order to a model in this process: planes bound, the tokenizer read beside them."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from h2q.core.errors import H2QError, UsageError
from h2q.core.events import StageEvent
from h2q.crystal import Crystal, crystal_bytes, open_crystal
from h2q.crystal.manifest import NAME
from h2q.engine.drafts import Drafter
from h2q.engine.load import exchange, load_crystal
from h2q.engine.model import Model
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
    pressure: int

    @property
    def pinned(self) -> bool: ...

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

    def close(self) -> None:
        """Give everything back."""
        ...


class Loaded:
    """A crystal whose planes are all there from the start; they change when they are asked to.
    Raises CrystalError or TextError when one is missing, damaged or does not fit.
    """

    def __init__(self, order: Order) -> None:
        began = time.perf_counter()
        self.timeline: list[StageEvent] = []
        self.budget, self.pressure = order.memory or 0, 0

        def passed(stage: str, size: int = 0) -> None:
            self.timeline.append(StageEvent(stage, time.perf_counter() - began, size))

        path = Path(order.crystal)
        self._reading = _Reading(path / "tokenizer.json")
        self._crystal = crystal = open_crystal(path)
        self.all_planes = 1 + len(crystal.rank)
        groups = len(crystal.rank) if order.groups is None else order.groups
        self._groups = self._aim = min(groups, len(crystal.rank))
        self._pin: int | None = None
        passed("open crystal")
        self.model = load_crystal(crystal, self._groups)
        self.drafter = Drafter(load_crystal(crystal, 0), order.draft) if order.draft else None
        passed("bind planes", crystal_bytes(crystal, self._groups))
        self.tokenizer = self._reading.result()
        self.tokenizer.require_fit(crystal.spec.vocab_size)
        self.fingerprint = fingerprint(crystal)
        passed("read tokenizer")

    @property
    def planes(self) -> int:
        return 1 + self._groups

    @property
    def weights(self) -> int:
        return crystal_bytes(self._crystal, self._groups)

    @property
    def pinned(self) -> bool:
        return self._pin is not None

    def chat_template(self) -> str | None:
        return self._crystal.chat_template()

    def between_steps(self) -> bool:
        wanted = self._aim if self._pin is None else self._pin
        if wanted == self._groups:
            return False
        names = self._crystal.manifest.bits
        exchange(self.model, {name: tuple(self._crystal.planes(name, wanted)) for name in names})
        self._groups = wanted
        return True

    def pin(self, planes: int | None) -> None:
        if planes is not None and not 1 <= planes <= self.all_planes:
            raise UsageError(
                f"The model has 1 to {self.all_planes} planes, not {planes}.", where="planes"
            )
        self._pin = None if planes is None else planes - 1

    def drop(self) -> None:
        self._aim = max(0, self._aim - 1)

    def refine(self) -> None:
        self._aim = self.all_planes - 1

    def close(self) -> None:
        """Maps go with the last array; nothing else is held."""


class _Reading:
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
