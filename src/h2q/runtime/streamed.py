"""A model larger than the memory it may have: its layers are read from the disk for every step."""

from __future__ import annotations

from collections.abc import Callable

from h2q.core.events import StageEvent
from h2q.core.units import format_bytes
from h2q.crystal.manifest import shard_name
from h2q.engine.drafts import Drafter
from h2q.engine.layer_stream import LayerStream, disk_speed, layer_ranges, streamed_model
from h2q.runtime.budget import SLOTS
from h2q.runtime.opening import Opening
from h2q.runtime.pressure import Pressure


class Streamed:
    """The base planes alone (see Started). `warning` says what speed to expect: bytes of all layers
    over the speed of the disk, measured now.
    """

    drafter: Drafter | None = None
    experts = None
    planes = all_planes = 1
    pinned = True
    refined = 0

    def __init__(self, opening: Opening) -> None:
        self.order, self.rows, self.memory = opening.order, opening.rows, opening.memory
        self.timeline: list[StageEvent] = opening.timeline
        self.fingerprint = opening.fingerprint
        self.wake: Callable[[], None] | None = None
        self._crystal, self._note = opening.crystal, opening.note
        self._guard = Pressure(opening.order.memory or 0)
        self.budget = self._guard.budget
        assert opening.plan is not None
        self.weights = opening.plan.weights
        parts = layer_ranges(opening.crystal)
        speed = disk_speed(opening.crystal.path / shard_name(0))
        self.bytes_per_token = sum(part.size for part in parts)
        self.expected = speed / self.bytes_per_token
        self.warning = (
            f"The base planes do not fit {format_bytes(self.budget)}: layers are read from the "
            f"disk for every token, {format_bytes(self.bytes_per_token)} each time. It reads "
            f"{format_bytes(speed)}/s: expect {self.expected:.2g} tokens/s, more where the system "
            "keeps the file in its cache."
        )
        size = max(part.size for part in parts)
        room = opening.memory.arena("planes", SLOTS * (size + 64))
        self.layers = LayerStream(
            opening.crystal, SLOTS, lambda count: room.array((count,), "uint8")
        )
        opening.memory.reserve("weights", self.weights - SLOTS * (size + 64))
        self._note("layers streamed", 0)
        self.model = streamed_model(opening.crystal, self.layers)
        self.tokenizer = opening.tokenizer()
        self._spoke = False

    @property
    def pressure(self) -> int:
        return self._guard.level

    def chat_template(self) -> str | None:
        return self._crystal.chat_template()

    def between_steps(self) -> bool:
        self._guard.look()
        return False

    def pin(self, planes: int | None) -> None:
        """There is one plane, and it is always fixed."""

    def drop(self) -> None:
        """There is nothing to give back."""

    def refine(self) -> None:
        """There is no room for more."""

    def spoke(self) -> None:
        if not self._spoke:
            self._spoke = True
            self._note("first token", self.layers.bytes)

    def close(self) -> None:
        self.layers.close()
