"""The last minutes in numbers, for whoever looks: tokens, memory, queue. Looking wakes no model."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h2q.server.metrics import clock

if TYPE_CHECKING:
    from h2q.server.app import App

EVERY_SECONDS = 2.0
KEPT = 300  # samples: ten minutes


@dataclass(frozen=True)
class Sample:
    """A moment: seconds since 1970, tokens/s since the sample before, bytes resident and promised
    of all models, requests with a token and without one yet.
    """

    time: float
    tokens_per_second: float
    resident: int
    promised: int
    running: int
    waiting: int


class History:
    """Samples, the oldest first."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        self._said, self._at = 0, clock()

    def look(self, app: App) -> Sample:
        """Take one now."""
        said = sum(series.said for series in app.metrics.models.values())
        now = clock()
        speed = (said - self._said) / max(1e-3, now - self._at)
        self._said, self._at = said, now
        running = app.house.running()
        sample = Sample(
            time=round(time.time(), 3),
            tokens_per_second=round(speed, 2),
            resident=sum(model.resident for model in running),
            promised=sum(model.budget for model in running),
            running=app.gate.running,
            waiting=app.gate.waiting,
        )
        self.samples.append(sample)
        return sample

    async def keep(self, app: App) -> None:
        """Go on for ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.look(app)
