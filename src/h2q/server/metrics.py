"""What is counted of every model, and what one answer adds to it.

Counting costs a bisection per token; names and the text for Prometheus are in `metrics_text.py`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h2q.core.events import TokenEvent
from h2q.orchestrator.happenings import Happening, Heard, LetGo, Restarted, Swapped

if TYPE_CHECKING:
    from h2q.runtime.worker import WorkerState

FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
INTER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1)
WHOLE = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 300, 600)
PHASES = ("map", "first_layer", "first_token", "full_quality")  # of a cold start
clock = time.perf_counter


class Histogram:
    """Counts of seconds between bounds; the last is for all above."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@dataclass
class Series:
    """Of one model, since the server began."""

    waiting: int = 0
    running: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    said: int = 0  # tokens, those of answers under way as well
    finished: Counter[str] = field(default_factory=Counter)
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN))
    inter_token: Histogram = field(default_factory=lambda: Histogram(INTER_TOKEN))
    whole: Histogram = field(default_factory=lambda: Histogram(WHOLE))
    queue: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN))
    cold: dict[str, Histogram] = field(default_factory=dict)
    refused: int = 0
    counted: dict[str, Counter[str]] = field(default_factory=dict)
    last_first_tokens: list[float] = field(default_factory=list)

    def count(self, what: str, kind: str = "") -> None:
        """An event in the model's life: evictions, swap, worker_restarts, guard_verdicts."""
        self.counted.setdefault(what, Counter())[kind] += 1

    def started(self, phases: dict[str, float]) -> None:
        """A cold start: seconds to the end of each of its phases."""
        for phase, seconds in phases.items():
            self.cold.setdefault(phase, Histogram(FIRST_TOKEN)).observe(seconds)


class Metrics:
    """All models. Names come from installed models only, so there are not many."""

    def __init__(self) -> None:
        self.models: dict[str, Series] = {}
        self._seen: dict[tuple[str, int], set[str]] = {}  # phases counted, by model and process

    def of(self, model: str) -> Series:
        return self.models.setdefault(model, Series())

    def hear(self, happening: Happening) -> None:
        """Count what happened to a model."""
        match happening:
            case Heard(model, state):
                self._saw(model, state)
            case LetGo(model, why):
                self.of(model).count("evictions", why)
            case Restarted(model):
                self.of(model).count("worker_restarts")
            case Swapped(model, result):
                self.of(model).count("swap", result)

    def _saw(self, model: str, state: WorkerState) -> None:
        """Count each phase of a worker's start once, when it is first told of."""
        start = model, state.process
        if start not in self._seen:
            self._seen[start] = set()
            while len(self._seen) > KEPT_STARTS:
                self._seen.pop(next(iter(self._seen)))
        counted = self._seen[start]
        for event in state.timeline:
            phase = event.stage.replace(" ", "_")
            if phase in PHASES and phase not in counted:
                counted.add(phase)
                self.of(model).started({phase: event.seconds})


KEPT_STARTS = 512  # model and process of each, so that nothing is counted twice
KEPT_FIRST_TOKENS = 64  # of each model, for the dashboard


class Meter:
    """One answer: as a context it counts itself as waiting, then running, then finished."""

    def __init__(self, series: Series, arrived: float) -> None:
        self._series, self._arrived = series, arrived
        self._last = 0.0
        self._finish = "error"
        self.tokens = 0

    def __enter__(self) -> Meter:
        self._series.waiting += 1
        return self

    def leased(self) -> None:
        """The model is there."""
        self._series.queue.observe(clock() - self._arrived)

    def token(self) -> None:
        """One more token came."""
        now = clock()
        series = self._series
        if self._last:
            series.inter_token.observe(now - self._last)
        else:
            series.waiting -= 1
            series.running += 1
            first = now - self._arrived
            series.first_token.observe(first)
            series.last_first_tokens.append(first)
            del series.last_first_tokens[:-KEPT_FIRST_TOKENS]
        self._last = now
        self.tokens += 1
        series.said += 1

    def end(self, event: TokenEvent) -> None:
        """The answer's last event."""
        self._finish = event.finish
        if event.usage is not None:
            self._series.prompt_tokens += event.usage.prompt_tokens
            self._series.tokens += event.usage.tokens
            self.tokens = -1

    def gone(self) -> None:
        """The client left."""
        self._finish = "abort"

    def __exit__(self, *_: object) -> None:
        series = self._series
        if self._last:
            series.running -= 1
        else:
            series.waiting -= 1
        if self.tokens > 0:
            series.tokens += self.tokens
        series.finished[self._finish] += 1
        series.whole.observe(clock() - self._arrived)
