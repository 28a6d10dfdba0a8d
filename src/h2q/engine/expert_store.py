"""Experts that stay on disk: mapped, and in memory only as far as a budget of bytes allows.

Nothing is copied. A layer's chosen experts are brought in whole before they run; the disk reads
those that are missing while others compute; what has to leave for them gives its pages back at
once. An expert answers with its base planes where the rest is not there (`degrade`), and the rest
comes in behind and takes part at a later token. Without that, every bit is that of the model in
memory.

Nothing breaks when an expert leaves while a thread looks at it: a page that was given back is read
again when it is touched. A mistake here costs time and memory, never a wrong number.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from h2q.core.errors import ResourceError
from h2q.core.expert_tally import ExpertTally
from h2q.core.units import format_bytes
from h2q.crystal import Crystal
from h2q.engine.behind import Behind
from h2q.engine.expert_files import ExpertFiles, LatePlanes
from h2q.engine.expert_room import ABOVE, BASE, ExpertRoom, Place
from h2q.engine.experts import Choice
from h2q.engine.followers import Followers
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import Apply, FloatArray

ASKED_AHEAD = 8  # missing experts that the disk reads while one computes
FEW_ROWS = 8  # up to so many rows, what is there runs before what is missing
MOST_BEHIND = 256  # refinements that wait to come in; the oldest are forgotten


class ExpertStore:
    """For one model, which is loaded with it (engine.load). `budget`: bytes of experts in memory,
    whole pages. `degrade`: rather answer with base planes than wait. `foresee`: ask the disk for
    experts that will probably be chosen. `forget`: have the system drop what it kept of experts
    that left, as on a machine that has no more memory.
    """

    def __init__(
        self, budget: int, degrade: bool = False, foresee: bool = True, forget: bool = False
    ) -> None:
        self.degrade, self.foresee, self.forget = degrade, foresee, forget
        self._budget = budget
        self._layers: list[range] = []
        self._lock = threading.Lock()
        self._missing: deque[int] = deque()
        self._behind = Behind(self._come_behind, MOST_BEHIND)
        self._hits = self._degraded = self._misses = self._left = self._read = 0
        self._foreseen = self._foreseen_used = 0
        self._stall = 0.0

    def open(self, crystal: Crystal, groups: int | None) -> None:
        """Serve the experts of this crystal, with its first `groups` refinement groups."""
        self._files = ExpertFiles(crystal, groups)
        self._per_token = crystal.spec.experts.num_experts_per_tok if crystal.spec.experts else 0

    def projection(self, names: Sequence[str]) -> LatePlanes:
        """Matrices of one expert that read one input."""
        return self._files.projection(names)

    def experts(self, mlps: Sequence[GatedMLP]) -> StoredExperts:
        """Experts of the next layer that has some. Raises CrystalError where a plane is missing."""
        self._layers.append(self._files.add(mlps))
        return StoredExperts(self, len(self._layers) - 1, mlps)

    def settle(self) -> None:
        """All layers are known. Raises ResourceError when the budget cannot hold one expert."""
        sizes = self._files.sizes()
        self._largest = int(sizes.sum(axis=0).max(initial=0))
        if self._budget < self._largest:
            raise ResourceError(
                f"{format_bytes(max(0, self._budget))} of memory are left for experts, of which "
                f"one takes {format_bytes(self._largest)}.",
                fix="Give the model more memory, or fewer planes.",
            )
        self._room = ExpertRoom(sizes, self._budget, self.degrade)
        self._followers = Followers(len(self._layers), max(map(len, self._layers), default=0))
        self._foreseen_now: list[set[int]] = [set() for _ in self._layers]

    def chosen(self, layer: int, choice: Choice) -> list[int]:
        """A layer's router has chosen: its experts in the order in which they should run. The disk
        begins to read.
        """
        began = time.perf_counter()
        first, room = self._layers[layer].start, self._room
        experts, uses = np.unique(choice.experts, return_counts=True)
        with self._lock:
            room.alone = self.degrade
            if layer == 0:
                room.age(len(choice.experts))
            room.note(first + experts, uses)
            room.wanted[:] = False
            room.wanted[first + experts] = True
        order = [int(expert) for expert in experts]
        if len(choice.experts) <= FEW_ROWS:
            order.sort(key=lambda expert: not self._answers(first + expert))
        self._missing = deque(first + e for e in order if not self._answers(first + e))
        for _ in range(ASKED_AHEAD):
            self._ask_next()
        if self.foresee:
            self._look_ahead(layer, choice)
        self._stall += time.perf_counter() - began
        return order

    def run(self, layer: int, expert: int, x: FloatArray, apply: Apply) -> FloatArray:
        """An expert's answer: float32 (T, width) to the same. Raises CrystalError where its planes
        are damaged.
        """
        number = self._layers[layer].start + expert
        mlp = self._files.mlps[number][self._ready(number)]
        try:
            return mlp(x, apply)
        finally:
            self._room.busy[number] = self._room.wanted[number] = False

    def tally(self) -> ExpertTally:
        """What it has cost so far."""
        room = self._room
        return ExpertTally(
            budget=room.budget,
            resident=room.used,
            peak=room.peak,
            every=int(room.sizes.sum()),
            hits=self._hits,
            degraded=self._degraded,
            misses=self._misses,
            stall=self._stall,
            read=self._read,
            let_go=self._left,
            foreseen=self._foreseen,
            foreseen_used=self._foreseen_used,
        )

    def resize(self, budget: int) -> None:
        """Another budget, of one expert at least; what no longer fits leaves now."""
        room = self._room
        with self._lock:
            room.budget = max(budget, self._largest)
            while room.used > room.budget and (place := room.least_worthy()) is not None:
                room.leave(*place)
                self._clear([place])

    def use(self, groups: int | None) -> None:
        """Other refinement groups may take part; between two tokens. Raises CrystalError."""
        self._behind.clear()
        with self._lock:
            gone = [(ABOVE, int(one)) for one in np.flatnonzero(self._room.resident[ABOVE])]
            for place in gone:
                self._room.leave(*place)
            self._clear(gone)
            self._files.use(groups)
            self._room.sizes = self._files.sizes()
            self._largest = int(self._room.sizes.sum(axis=0).max())
            self._room.budget = max(self._room.budget, self._largest)

    def expected_speed(self, disk: float) -> float:
        """Tokens a second that a disk of so many bytes a second allows where a router chooses
        evenly: over what of a token's experts is not in memory. Infinity where all of it is.
        """
        every = self._room.sizes.sum()
        missing = 1 - self._room.budget / every
        each = self._per_token * len(self._layers) * every / len(self._files.mlps) * missing
        return disk / each if each > 0 else float("inf")

    def wait(self) -> None:
        """Returns when nothing comes in behind any more."""
        self._behind.settle()

    def close(self) -> None:
        """Everything leaves and nothing comes in any more."""
        self._behind.close()
        self._room.busy[:] = False
        with self._lock:
            while (place := self._room.least_worthy()) is not None:
                self._room.leave(*place)
                self._clear([place])

    def _answers(self, number: int) -> bool:
        """Whether the expert can run without waiting."""
        there, above = self._room.resident[:, number], self._room.sizes[ABOVE, number]
        return bool(there[BASE] and (self.degrade or there[ABOVE] or not above))

    def _ready(self, number: int) -> int:
        """Wait until an expert can run, and keep it from leaving: BASE or ABOVE, with which of its
        planes.
        """
        room, above = self._room, bool(self._room.sizes[ABOVE, number])
        room.busy[number] = True
        if self._answers(number):
            whole = not above or bool(room.resident[ABOVE, number])
            self._hits += whole
            self._degraded += not whole
        else:
            began = time.perf_counter()
            self._misses += 1
            if self._missing and self._missing[0] == number:
                self._missing.popleft()
            self._come(BASE, number)
            if above and not self.degrade:
                self._come(ABOVE, number)
            self._ask_next()
            self._stall += time.perf_counter() - began
        if above and not room.resident[ABOVE, number]:
            self._bring_behind(number)
            return BASE
        return ABOVE

    def _come(self, level: int, number: int, urgent: bool = True) -> bool:
        """Bring planes in, if they are not there; whether they have found a place."""
        room, place = self._room, (level, number)
        with self._lock:
            if room.resident[place]:
                return True
            if not room.coming[place]:
                leaving = room.take(level, number, urgent)
                if leaving is None and not urgent:
                    return False
                self._clear(leaving or [])
                self._read += int(room.sizes[place])
        self._files.bring(place)
        with self._lock:
            if room.coming[place]:
                room.arrive(level, number)
        return True

    def _clear(self, places: Sequence[Place]) -> None:
        self._left += len(places)
        self._files.let_go(places, self.forget)

    def _ask_next(self) -> None:
        """Have the disk begin with one more of the missing experts."""
        if self._missing:
            number = self._missing.popleft()
            for level in self._needed(number):
                self._files.ask((level, number))

    def _needed(self, number: int) -> list[int]:
        """Levels that an expert waits for."""
        room = self._room
        levels = (BASE,) if self.degrade else (BASE, ABOVE)
        return [at for at in levels if room.sizes[at, number] and not room.resident[at, number]]

    def _look_ahead(self, layer: int, choice: Choice) -> None:
        """Learn from a choice; ask the disk for what the next layer will probably choose."""
        first, chosen = self._layers[layer].start, set(choice.experts.flat)
        foreseen, self._foreseen_now[layer] = self._foreseen_now[layer], set()
        self._foreseen_used += len(foreseen & chosen)
        if self.forget:
            for expert in foreseen - chosen:
                if not self._room.resident[BASE, first + expert]:
                    self._files.forget((BASE, first + expert))
        self._followers.learn(layer, choice.experts)
        if len(choice.experts) > FEW_ROWS:
            return  # nearly all of the next will be chosen
        layer = (layer + 1) % len(self._layers)
        first = self._layers[layer].start
        for expert in self._followers.likely(layer):
            levels = self._needed(first + int(expert))
            for level in levels:
                self._files.ask((level, first + int(expert)))
            if levels:
                self._foreseen += 1
                self._foreseen_now[layer].add(int(expert))

    def _bring_behind(self, number: int) -> None:
        """Let the planes above the base of an expert come in when there is time."""
        if self._room.budget >= 2 * self._largest:  # what comes in must not keep out what runs
            self._behind.give(number)

    def _come_behind(self, number: int) -> None:
        if self._room.resident[BASE, number]:
            self._come(ABOVE, number, urgent=False)


class StoredExperts:
    """The experts of one layer. See engine.experts.Experts."""

    def __init__(self, store: ExpertStore, layer: int, mlps: Sequence[GatedMLP]) -> None:
        self.mlps, self._store, self._layer = mlps, store, layer

    def __call__(self, x: FloatArray, choice: Choice, apply: Apply) -> FloatArray:
        """See Experts. Answers are added in the order of Dispatch, whatever order they come in."""
        out, rows = np.zeros_like(x), choice.rows(len(self.mlps))
        order = self._store.chosen(self._layer, choice)
        due, early = deque(sorted(order)), dict[int, FloatArray]()
        for expert in order:
            early[expert] = self._store.run(self._layer, expert, x[rows[expert][0]], apply)
            while due and due[0] in early:
                at, weights = rows[due[0]]
                out[at] += weights[:, None] * early.pop(due.popleft())
        return out
