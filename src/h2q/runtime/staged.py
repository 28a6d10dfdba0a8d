"""A staged start: the base is read in the order of execution while its first layers compute,
refinement groups follow by rank behind the tokens, and each step is an event.

| stage | when | bytes |
|---|---|---|
| map | files are mapped, nothing is read | 0 |
| first layer | the embedding and one layer are in memory | read by then |
| base | all base planes are in memory | read by then |
| first token | the model has said something | read by then |
| plane N | so many planes take part | read by then |
| full quality | all planes that were ordered take part | read by then |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from h2q.core.errors import H2QError, UsageError
from h2q.core.events import StageEvent
from h2q.crystal import crystal_bytes, open_crystal
from h2q.engine.arriving import ArrivingModel, arrivals
from h2q.engine.drafts import Drafter
from h2q.engine.load import exchange, load_crystal
from h2q.engine.model import Model
from h2q.runtime.loading import TokenizerReading, fingerprint
from h2q.runtime.read_ahead import ReadAhead
from h2q.runtime.refining import Refining
from h2q.runtime.worker import Order

SMALL = 32 << 20  # bytes that are read in less time than a token takes: no stages for them


class Staged:
    """A crystal being started (see Started). `pin`: planes fixed from the start. Raises
    CrystalError or TextError when something is missing, damaged or does not fit; of planes that
    arrive later, it is raised where they are waited for.
    """

    def __init__(self, order: Order, pin: int | None = None, small: int = SMALL) -> None:
        self._began = time.perf_counter()
        self.timeline: list[StageEvent] = []
        self.budget, self.pressure = order.memory or 0, 0
        self.wake: Callable[[], None] | None = None
        path = Path(order.crystal)
        tokenizer = TokenizerReading(path / "tokenizer.json")
        self._crystal = crystal = open_crystal(path)
        crystal.require(0)
        self.all_planes = 1 + len(crystal.rank)
        self.fingerprint = fingerprint(crystal)
        self._groups = 0
        self._pin: int | None = None
        most = len(crystal.rank)
        self._most = most if order.groups is None else min(order.groups, most)
        if pin is not None:
            self._most = self._pin = self._checked(pin) - 1
        self._refining = Refining(crystal, self._most, self._came)
        self._read = ReadAhead(crystal.mapped(0))
        self._spoke = self._full = False
        self._note("map")
        first, layers, tail = arrivals(crystal)
        self._read.wait(first)
        self._arriving = ArrivingModel(crystal)
        self.model: Model = self._arriving
        self._whole = pin is not None or crystal_bytes(crystal, self._most) <= small
        self._binding = threading.Thread(
            target=self._bind, args=(layers, tail), name="bind", daemon=True
        )
        self._binding.start()
        self.drafter: Drafter | None = None
        try:
            if order.draft:
                self._binding.join()
                self.drafter = Drafter(load_crystal(crystal, 0), order.draft)
            self.tokenizer = tokenizer.result()
            self.tokenizer.require_fit(crystal.spec.vocab_size)
            if self._whole:
                self._binding.join()
                self._refining.bring(self._most)
                self.between_steps()
                self._refining.start()
        except BaseException:
            self.close()
            raise

    @property
    def planes(self) -> int:
        return 1 + self._groups

    @property
    def weights(self) -> int:
        return crystal_bytes(self._crystal, max(self._groups, self._refining.ready))

    @property
    def pinned(self) -> bool:
        return self._pin is not None

    def chat_template(self) -> str | None:
        return self._crystal.chat_template()

    def between_steps(self) -> bool:
        """See Started. Waits for planes that are fixed and not there yet. Raises CrystalError when
        they cannot come.
        """
        pin = self._pin
        wanted = self._most if pin is None else pin
        if pin is not None and pin > self._refining.ready:
            self._refining.want(max(pin, self._most))
            self._refining.wait(pin)
        wanted = min(wanted, self._refining.ready)
        changed = wanted != self._groups
        if changed:
            self._binding.join()
            self._exchange(wanted)
        needed = max(self._most, pin or 0)
        if self._refining.ready > needed:
            self._refining.give_back(needed)
        return changed

    def pin(self, planes: int | None) -> None:
        self._pin = None if planes is None else self._checked(planes) - 1
        self._refining.want(max(self._most, self._pin or 0))

    def drop(self) -> None:
        self._most = max(0, min(self._most, self._refining.ready) - 1)
        self._full = True
        self._refining.want(max(self._most, self._pin or 0))

    def refine(self) -> None:
        self._most = self.all_planes - 1
        self._refining.want(self._most)

    def spoke(self) -> None:
        """See Started."""
        self._refining.spoke()
        if not self._spoke:
            self._spoke = True
            self._note("first token")

    def close(self) -> None:
        self._read.close()
        self._binding.join()
        self._refining.close()

    def _checked(self, planes: int) -> int:
        if not 1 <= planes <= self.all_planes:
            raise UsageError(
                f"The model has 1 to {self.all_planes} planes, not {planes}.", where="planes"
            )
        return planes

    def _bind(self, layers: list[int], tail: int) -> None:
        """Let the model use what was read, as far as it was read; then let refinement begin."""
        model = self._arriving
        try:
            for index, end in enumerate(layers):
                self._read.wait(end)
                model.bind_layer(index)
                if index == 0:
                    self._note("first layer")
            self._read.wait(tail)
            model.bind_tail()
        except H2QError as error:
            model.fail(error)
            self._refining.fail(error)
            return
        self._note("base")
        if not self._whole:
            self._refining.start()

    def _exchange(self, groups: int) -> None:
        names = {
            name
            for group in self._crystal.rank[min(groups, self._groups) : max(groups, self._groups)]
            for name, _ in group
        }
        exchange(self.model, {name: tuple(self._crystal.planes(name, groups)) for name in names})
        self._groups = groups
        self._note(f"plane {1 + groups}")
        if groups == self._most and not self._full:
            self._full = True
            self._note("full quality")

    def _came(self, group: int) -> None:
        if self.wake is not None:
            self.wake()

    def _note(self, stage: str) -> None:
        read = self._read.bytes + self._refining.bytes
        self.timeline.append(StageEvent(stage, time.perf_counter() - self._began, read))
