"""The begin of every start: a crystal opened, its tokenizer read beside it, and, where memory is
bounded, what takes part chosen.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.events import StageEvent
from h2q.crystal import open_crystal
from h2q.engine.scheduler import STEP_ROWS
from h2q.runtime.loading import TokenizerReading, fingerprint
from h2q.runtime.pool import MemoryPool
from h2q.runtime.process import rss_parts
from h2q.runtime.worker import Order

if TYPE_CHECKING:
    from h2q.runtime.budget import Plan
    from h2q.text.tokenizer import Tokenizer


class Opening:
    """`order` is what was asked for, made to fit its memory; `plan` says how, None without a bound.
    `memory` holds the reservations. Raises CrystalError, TextError, ResourceError.
    """

    def __init__(self, order: Order) -> None:
        self._began = time.perf_counter()
        self.timeline: list[StageEvent] = []
        self.asked = self.order = order
        path = Path(order.crystal)
        reading = TokenizerReading(path / "tokenizer.json")
        self.crystal = open_crystal(path, later=True)
        self.crystal.require(0)
        self.fingerprint = fingerprint(self.crystal)
        self.memory = MemoryPool(order.memory)
        self.rows = max(STEP_ROWS, order.streams)
        self.plan: Plan | None = None
        self._reading = reading
        if order.memory is not None:
            from h2q.runtime.expert_budget import expert_plan

            files = rss_parts()[1]
            self.tokenizer()
            self._fit(expert_plan(self.crystal, order, rss_parts()[0] + files))

    def tokenizer(self) -> Tokenizer:
        """Waits for it. Raises TextError when it does not fit the model."""
        found = self._reading.result()
        found.require_fit(self.crystal.spec.vocab_size)
        return found

    def note(self, stage: str, read: int) -> None:
        """A stage is reached, with so many bytes of weights read."""
        self.timeline.append(StageEvent(stage, time.perf_counter() - self._began, read))

    def _fit(self, made: Plan) -> None:
        self.plan, self.rows = made, made.rows
        self.order = replace(
            self.asked, groups=made.groups, context=made.context, streams=made.streams
        )
        for name, count in (
            ("interpreter", made.interpreter),
            ("weights", 0 if made.streamed else made.weights),
            ("scratch", made.scratch),
        ):
            self.memory.reserve(name, count)
