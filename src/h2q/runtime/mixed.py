"""A model whose experts do not all fit the memory it may have: they stay on disk, mapped, and those
that are used most are in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from h2q.core.errors import UsageError
from h2q.core.events import StageEvent
from h2q.core.expert_tally import ExpertTally
from h2q.core.mlp_tensors import is_expert
from h2q.core.units import format_bytes
from h2q.crystal.manifest import shard_name
from h2q.engine.drafts import Drafter
from h2q.engine.expert_store import ExpertStore
from h2q.engine.layer_stream import disk_speed
from h2q.engine.load import exchange, load_crystal
from h2q.runtime.expert_budget import ExpertPlan
from h2q.runtime.opening import Opening
from h2q.runtime.pressure import Pressure

SHRINK = 0.9  # of what experts have, when the promise is in danger
SLOW = 20.0  # tokens a second, below which a person is warned


class Mixed:
    """See Started. An expert answers with its base planes while the rest of it is on disk, unless
    planes are pinned: then every bit is that of the model in memory. `expected`: tokens a second if
    experts are chosen evenly, as far as the disk decides; `warning` says so, where that is slow.

    Raises CrystalError, TextError, ResourceError, UsageError.
    """

    drafter: Drafter | None = None
    refined = 0  # planes are mapped, none comes in behind the answers

    def __init__(self, opening: Opening, made: ExpertPlan, pin: int | None = None) -> None:
        if opening.order.draft:
            raise UsageError(
                "Drafts need all base planes in memory, and experts do not fit.",
                where="draft",
                fix="Give the model more memory, or no drafts.",
            )
        self.order, self.rows, self.memory = opening.order, opening.rows, opening.memory
        self.timeline: list[StageEvent] = opening.timeline
        self.fingerprint = opening.fingerprint
        self.wake: Callable[[], None] | None = None
        self._crystal, self._note = opening.crystal, opening.note
        self._guard = Pressure(opening.order.memory or 0)
        self.budget, self.all_planes = self._guard.budget, 1 + made.groups
        self._plan, self._groups, self._spoke = made, made.groups, False
        self._note("map", 0)
        self._pin: int | None = None
        self.store = ExpertStore(made.experts, degrade=True)
        self._aim = made.experts  # of bytes, when there is no pressure
        self.model = load_crystal(self._crystal, made.groups, self.store)
        try:
            self.pin(pin)
            self.between_steps()
            shard = self._crystal.path / shard_name(0)
            self.expected = self.store.expected_speed(disk_speed(shard))
            self.warning = self._words()
            self._note("experts mapped", 0)
            self.tokenizer = opening.tokenizer()
        except BaseException:
            self.close()
            raise

    @property
    def planes(self) -> int:
        return 1 + self._groups

    @property
    def weights(self) -> int:
        return self._plan.weights - self._plan.experts + self.store.tally().resident

    @property
    def pinned(self) -> bool:
        return self._pin is not None

    @property
    def pressure(self) -> int:
        return self._guard.level

    @property
    def experts(self) -> ExpertTally | None:
        """What keeping experts on disk has cost so far."""
        return self.store.tally()

    def chat_template(self) -> str | None:
        return self._crystal.chat_template()

    def between_steps(self) -> bool:
        """See Started. Experts give memory up under pressure, and get it back."""
        now = self.store.tally().budget
        if self._guard.look() >= 2:
            self.store.resize(int(now * SHRINK))
        elif now < self._aim and self._guard.allows(self._aim - now):
            self.store.resize(self._aim)
        self.store.degrade = self._pin is None
        wanted = self._plan.groups if self._pin is None else self._pin
        if wanted == self._groups:
            return False
        names = [name for name in self._crystal.manifest.bits if not is_expert(name)]
        exchange(self.model, {name: tuple(self._crystal.planes(name, wanted)) for name in names})
        self.store.use(wanted)
        self._groups = wanted
        return True

    def pin(self, planes: int | None) -> None:
        if planes is not None and not 1 <= planes <= self.all_planes:
            raise UsageError(
                f"The model has 1 to {self.all_planes} planes in its memory, not {planes}.",
                where="planes",
            )
        self._pin = None if planes is None else planes - 1

    def drop(self) -> None:
        self._aim = int(self.store.tally().budget * SHRINK)
        self.store.resize(self._aim)

    def refine(self) -> None:
        self._aim = self._plan.experts
        self.store.resize(self._aim)

    def spoke(self) -> None:
        if not self._spoke:
            self._spoke = True
            self._note("first token", self.store.tally().read)

    def close(self) -> None:
        self.store.close()

    def _words(self) -> str:
        tally, speed = self.store.tally(), self.expected
        if speed > SLOW:
            return ""
        return (
            f"{format_bytes(tally.budget)} of the model's {format_bytes(tally.every)} of experts "
            f"fit {format_bytes(self.budget)}, the others are read from the disk when they are "
            f"chosen: expect {speed:.2g} tokens/s if all are chosen alike, more if few are chosen "
            "often."
        )
