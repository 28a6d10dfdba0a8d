"""What a step costs besides its products, what a process holds, what drafts bring."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from functools import partial

from h2q.bench.engine_bench import Bench
from h2q.bench.engine_memory import ROOM, Memory
from h2q.bench.engine_runs import end, in_turns
from h2q.bench.native_clock import NativeClock
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Timing
from h2q.engine.drafts import Drafter

OUTSIDE_GOAL, DRAFTS_GOAL = 0.1, 1.3


def outside_rows(bench: Bench) -> list[Row]:
    """Where the time of a decoding step goes; `profile` gets each operation's microseconds."""
    engine, steps = bench.engine("2"), bench.lengths.answer
    shares, outsides = [], []
    clock = NativeClock()
    for _ in range(bench.repeats):
        scheduler = engine.talking([bench.prompts.next(bench.lengths.prompt)], steps)
        clock = NativeClock()
        with clock.running():
            began = time.perf_counter()
            for _ in range(steps):
                scheduler.step()
            taken = time.perf_counter() - began
        end(scheduler, 1)
        outsides.append((taken - clock.total) / steps)
        shares.append(1 - clock.total / taken)
    bench.profile |= {
        name: {"microseconds": 1e6 * seconds / steps, "calls": clock.calls[name] / steps}
        for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
    }
    outside = Timing(min(outsides), statistics.median(outsides), len(outsides))
    share, goal = statistics.median(shares), bench.goal(most=OUTSIDE_GOAL)
    name = "a step outside native code, 2 bits"
    return [bench.row(name, outside, outside.median, "s", share, "the step", goal)]


def memory_rows(bench: Bench, found: Memory, seconds: float) -> list[Row]:
    """What a process of its own held."""
    needed = found.weights + found.cache
    target = Target("value", most=needed + ROOM) if bench.goals else None
    name = f"resident memory, 2 bits, context {bench.lengths.context:,}"
    timing, ratio = Timing(seconds, seconds, 1), found.peak / needed
    return [bench.row(name, timing, found.peak, "bytes", ratio, "weights and cache", target)]


def draft_rows(bench: Bench, tokens: Mapping[int, float]) -> list[Row]:
    """Rounds that draft `ahead` tokens at two bits and hear them at 2+2; `tokens` are said by such
    a round on a crystal that speaks, by `ahead`.
    """
    full, lengths = bench.engine("2+2"), bench.lengths
    rounds = max(2, lengths.answer // 8)

    def run(ahead: int) -> float:
        drafter = Drafter(bench.models["2"], ahead, least=0.0) if ahead else None
        return full.decode([bench.prompts.next(lengths.prompt)], rounds, drafter)

    timings = in_turns({str(n): partial(run, n) for n in (0, *tokens)}, bench.repeats)
    alone, rows = timings["0"].median, []
    for ahead, said in tokens.items():
        timing = timings[str(ahead)]
        value = said / timing.median
        name = f"drafts of {ahead}, 2 bits for 2+2"
        to = f"2+2 without drafts; {said:.3g} tokens a round of {timing.median / alone:.3g} steps"
        rows.append(bench.row(name, timing, value, "tokens/s", value * alone, to))
    best = max(rows, key=lambda row: row.ratio)
    name, goal = "drafts at their best, 2 bits for 2+2", bench.goal(least=DRAFTS_GOAL)
    to = f"{best.ratio_to} ({best.name.partition(',')[0]})"
    rows.append(bench.row(name, best.timing, best.value, best.unit, best.ratio, to, goal))
    return rows
