"""Times of several pieces of work, taken in turns, so that a busy neighbour slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h2q import kernels
from h2q.core.errors import KernelError
from h2q.kernels import references

FEWEST_ROUNDS = 3
MOST_ROUNDS = 100
WAKING_JOBS = 2  # before each sample, so that the threads of the pool are awake


@dataclass(frozen=True)
class Contestant:
    """Work to be timed on `threads` threads and, where given, on a kernel path of its own."""

    name: str
    work: Callable[[], object]
    threads: int
    path: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the best and the median over `rounds` samples."""

    best: float
    median: float
    rounds: int

    def part(self, count: int) -> Timing:
        """The time of one of `count` equal pieces."""
        return Timing(self.best / count, self.median / count, self.rounds)


Timings = Mapping[str, Timing]


def race(
    contestants: Sequence[Contestant], seconds: float, sample: float, rest: float = 0.0
) -> dict[str, Timing]:
    """Time all contestants in turns, the order reversed from round to round, for about `seconds` in
    all. A sample is as many calls as fill `sample` seconds; `rest` are seconds of sleep before it,
    where threads of somebody else may still be spinning.
    """
    threads, path = kernels.threads(), kernels.path()
    calls: dict[str, int] = {}
    times: dict[str, list[float]] = {c.name: [] for c in contestants}
    if len(times) < len(contestants):
        raise KernelError("Two contestants of one race have the same name.")
    try:
        for contestant in contestants:  # the first call pays for scratch memory and page faults
            _timed(contestant, 1, path, rest)
            calls[contestant.name] = max(1, round(sample / _timed(contestant, 1, path, rest)))
        until = time.perf_counter() + seconds
        for done in range(MOST_ROUNDS):
            if done >= FEWEST_ROUNDS and time.perf_counter() > until:
                break
            for contestant in contestants if done % 2 == 0 else reversed(contestants):
                count = calls[contestant.name]
                times[contestant.name].append(_timed(contestant, count, path, rest))
    finally:
        kernels.set_threads(threads)
    return {n: Timing(min(t), statistics.median(t), len(t)) for n, t in times.items()}


def _timed(contestant: Contestant, calls: int, path: str, rest: float) -> float:
    """Seconds of one call."""
    kernels.set_threads(contestant.threads)
    with kernels.using(contestant.path or path):
        if rest:
            time.sleep(rest)
        else:
            references.synchronise(WAKING_JOBS, True)
        began = time.perf_counter()
        for _ in range(calls):
            contestant.work()
        return (time.perf_counter() - began) / calls
