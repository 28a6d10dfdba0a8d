"""A staged start: the base is read in the order of execution while its first layers compute,
refinement groups follow by rank behind the tokens, and each step is an event.

| stage | when | bytes |
|---|---|---|
| map | files are mapped; reading has begun | read by then |
| first layer | the embedding and one layer are in memory | read by then |
| base | all base planes are in memory | read by then |
| first token | the model has said something | read by then |
| plane N | so many planes take part | read by then |
| full quality | all planes that were ordered take part | read by then |

Under pressure planes are given back, the last first, and come back when it has passed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from h2q.core.errors import H2QError, ResourceError, UsageError
from h2q.core.events import StageEvent
from h2q.crystal import crystal_bytes
from h2q.engine.arriving import ArrivingModel, arrivals
from h2q.engine.drafts import Drafter
from h2q.engine.load import exchange, load_crystal
from h2q.engine.model import Model
from h2q.runtime.opening import Opening
from h2q.runtime.pressure import Pressure, watch
from h2q.runtime.read_ahead import ReadAhead
from h2q.runtime.refining import Refining
from h2q.runtime.worker import ENDED

SMALL = 32 << 20  # bytes that are read in less time than a token takes: no stages for them


class Staged:
    """A crystal being started (see Started). `pin`: planes fixed from the start. Raises
    CrystalError or TextError when something is missing, damaged or does not fit; of planes that
    arrive later, it is raised where they are waited for.
    """

    warning, experts = "", None

    def __init__(self, opening: Opening, pin: int | None = None, small: int = SMALL) -> None:
        self.order, self.rows, self.memory = opening.order, opening.rows, opening.memory
        self.timeline: list[StageEvent] = opening.timeline
        self.fingerprint = opening.fingerprint
        self.wake: Callable[[], None] | None = None
        self._note_stage = opening.note
        self._crystal = crystal = opening.crystal
        self._guard = Pressure(opening.order.memory or 0)
        self.budget, self.all_planes = self._guard.budget, 1 + len(crystal.rank)
        self._groups, most = 0, len(crystal.rank)
        self._pin: int | None = None
        self._most = most if self.order.groups is None else min(self.order.groups, most)
        if pin is not None:
            self._most = self._pin = self._checked(pin) - 1
        self._allowed = self._most
        self._refining = Refining(crystal, self._most, weakref.WeakMethod(self._came))
        self._read = ReadAhead(crystal.mapped(0))
        self._spoke = self._full = False
        self._ended = threading.Event()
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
        watch(weakref.WeakMethod(self._watch), self._ended)
        try:
            if self.order.draft:
                self._binding.join()
                self.drafter = Drafter(load_crystal(crystal, 0), self.order.draft)
            self.tokenizer = opening.tokenizer()
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
    def refined(self) -> int:
        """Bytes of refinement that came in so far."""
        return self._refining.bytes

    @property
    def pinned(self) -> bool:
        return self._pin is not None

    @property
    def pressure(self) -> int:
        return self._guard.level

    def chat_template(self) -> str | None:
        return self._crystal.chat_template()

    def between_steps(self) -> bool:
        """See Started. Waits for planes that are fixed and not there yet. Raises CrystalError when
        they cannot come.
        """
        self._heed()
        pin = self._pin
        if pin is not None and pin > self._refining.ready:
            self._refining.wait(pin)
        wanted = min(self._allowed if pin is None else pin, self._refining.ready)
        changed = wanted != self._groups
        if changed:
            self._binding.join()
            self._exchange(wanted)
        if self._refining.ready > self._needed:
            self._refining.give_back(self._needed)
        return changed

    def pin(self, planes: int | None) -> None:
        self._pin = None if planes is None else self._checked(planes) - 1
        self._refining.want(self._needed)

    def drop(self) -> None:
        self._most = max(0, min(self._most, self._refining.ready) - 1)
        self._allowed, self._full = min(self._allowed, self._most), True
        self._refining.want(self._needed)

    def refine(self) -> None:
        most = self.all_planes - 1
        self._most = most if self.order.groups is None else min(self.order.groups, most)
        if not self._guard.level:
            self._allowed = self._most
        self._refining.want(self._needed)

    def spoke(self) -> None:
        """See Started."""
        self._refining.spoke()
        if not self._spoke:
            self._spoke = True
            self._note("first token")

    def close(self) -> None:
        self._ended.set()
        self._read.close()
        self._binding.join()
        self._refining.close()

    @property
    def _needed(self) -> int:
        """Groups that are to be in memory."""
        return max(self._allowed, self._pin or 0)

    def _heed(self) -> None:
        """Give planes up under pressure, and let them come back one by one."""
        level = self._guard.look()
        before = self._allowed
        if level >= 2:
            self._allowed = 0 if level == 3 else max(0, min(before, self._refining.ready) - 1)
        elif before < self._most:
            size = self._crystal.manifest.files[1 + before].bytes
            self._allowed += self._refining.ready == before and self._guard.allows(size)
        if self._allowed != before:
            self._refining.want(self._needed)

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
                if self._ended.is_set():
                    raise ResourceError(ENDED)
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

    def _watch(self) -> None:
        """Have a model that rests give up planes, or take them back."""
        shed = self._guard.look() >= 2 and self._refining.ready > (self._pin or 0)
        if shed or (not self._guard.level and self._allowed < self._most):
            self._came()

    def _came(self) -> None:
        if self.wake is not None:
            self.wake()

    def _note(self, stage: str) -> None:
        self._note_stage(stage, self._read.bytes + self._refining.bytes)
