"""The rows of `h2q bench engine`, group by group; values and ratios are those of the median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from h2q import kernels
from h2q.bench.engine_memory import ROOM, Memory
from h2q.bench.engine_runs import Engine, Lengths, Prompts, Run, end, in_turns
from h2q.bench.llama_peer import LlamaPeer
from h2q.bench.materials import words
from h2q.bench.native_clock import NativeClock
from h2q.bench.random_model import RandomWeights
from h2q.bench.references import DOT_ROUNDS
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Timing
from h2q.codec.planes import Plane
from h2q.engine.drafts import Drafter
from h2q.kernels import references

PLANES = {"2": 1, "2+2": 2}  # planes of a stack, by what a row calls them
DECODING_PEERS, PREFILL_PEERS = ("Q4_K_M", "Q2_K"), ("Q4_0", "Q4_K_M")
DECODING_GOALS = {("2", "Q4_K_M"): 2.5, ("2", "Q2_K"): 8.0, ("2+2", "Q4_K_M"): 1.35}
PREFILL_GOALS = {("2", "Q4_0"): 2.5}
STREAMS_GOAL, OUTSIDE_GOAL, DRAFTS_GOAL = 3.5, 0.1, 1.3


@dataclass
class Bench:
    """What all groups share. `goals`: whether this is the shape that goals are set for."""

    weights: RandomWeights
    lengths: Lengths
    repeats: int
    goals: bool
    peers: Mapping[str, LlamaPeer]
    profile: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.weights.spec)
        self.models = {name: self.weights.model(count) for name, count in PLANES.items()}

    def engine(self, bits: str, streams: int = 1) -> Engine:
        return Engine(self.models[bits], self.lengths.positions, streams)

    def goal(self, least: float | None = None, most: float | None = None) -> Target | None:
        known = least is not None or most is not None
        return Target("ratio", least, most) if self.goals and known else None

    def row(
        self,
        name: str,
        timing: Timing,
        value: float,
        unit: str,
        ratio: float,
        ratio_to: str,
        target: Target | None = None,
        path: str = "",
    ) -> Row:
        path, threads = path or kernels.path(), kernels.threads()
        return Row(name, path, threads, timing, value, unit, ratio, ratio_to, target)


def decode_rows(bench: Bench) -> list[Row]:
    """One stream, one token after the other."""
    lengths = bench.lengths

    def ours(engine: Engine) -> float:
        return engine.decode([bench.prompts.next(lengths.prompt)], lengths.answer)

    def theirs(peer: LlamaPeer) -> float:
        return peer.decode(bench.prompts.next(lengths.prompt), lengths.answer)

    runs: dict[str, Run] = {}
    for bits, count in PLANES.items():
        runs[bits] = partial(ours, bench.engine(bits))
        for form in range(references.read_forms()):
            codes = bench.weights.read_per_token(count)
            runs[f"read {bits} {form}"] = partial(_read, codes, form)
    peers = [name for name in DECODING_PEERS if name in bench.peers]
    runs |= {name: partial(theirs, bench.peers[name]) for name in peers}
    timings = in_turns(runs, bench.repeats)
    rows = []
    for bits in PLANES:
        reads = [t.median for n, t in timings.items() if n.startswith(f"read {bits} ")]
        timing = timings[bits]
        ratio = min(reads) / timing.median
        value = 1 / timing.median
        to = "a pure read of the same codes"
        rows.append(bench.row(f"decoding, {bits} bits", timing, value, "tokens/s", ratio, to))
    return rows + _beside(bench, "decoding", timings, peers, 1, DECODING_GOALS)


def prefill_rows(bench: Bench) -> list[Row]:
    """A long prompt up to its first token."""
    tokens = bench.lengths.prefill
    runs: dict[str, Run] = {"multiply-adds": _multiply_add}
    for bits in PLANES:
        engine = bench.engine(bits)
        runs[bits] = partial(_prefill, engine, bench.prompts, tokens)
    peers = [name for name in PREFILL_PEERS if name in bench.peers]
    runs |= {n: partial(_prefill, bench.peers[n], bench.prompts, tokens) for n in peers}
    timings = in_turns(runs, bench.repeats)
    rows = []
    for bits, count in PLANES.items():
        inner = bench.weights.in_layers(count)
        adds = tokens * sum(plane.spec.rows * plane.spec.cols for plane in inner)
        timing = timings[bits]
        ratio = adds * timings["multiply-adds"].median / timing.median
        value = tokens / timing.median
        name, to = f"prefill of {tokens}, {bits} bits", "bare multiply-adds"
        rows.append(bench.row(name, timing, value, "tokens/s", ratio, to))
    return rows + _beside(bench, f"prefill of {tokens}", timings, peers, tokens, PREFILL_GOALS)


def stream_rows(bench: Bench) -> list[Row]:
    """Many streams at once, all of them decoding at two bits."""
    lengths, many = bench.lengths, bench.lengths.streams

    def run(engine: Engine, streams: int) -> float:
        prompts = [bench.prompts.next(lengths.prompt) for _ in range(streams)]
        return engine.decode(prompts, lengths.answer // 2)

    runs = {str(n): partial(run, bench.engine("2", n), n) for n in (1, many)}
    timings = in_turns(runs, bench.repeats)
    value = many / timings[str(many)].median
    ratio = value * timings["1"].median
    name, goal = f"{many} streams at once, 2 bits", bench.goal(least=STREAMS_GOAL)
    return [
        bench.row(name, timings[str(many)], value, "tokens/s", ratio, "1 stream", goal),
    ]


def outside_rows(bench: Bench) -> list[Row]:
    """Where the time of a decoding step goes; `profile` gets each operation's microseconds."""
    engine, steps = bench.engine("2"), bench.lengths.answer
    shares, outsides = [], []
    clock = NativeClock()
    for turn in range(bench.repeats + 1):
        scheduler = engine.talking([bench.prompts.next(bench.lengths.prompt)], steps)
        clock = NativeClock()
        with clock.running():
            began = time.perf_counter()
            for _ in range(steps):
                scheduler.step()
            taken = time.perf_counter() - began
        end(scheduler, 1)
        if turn:
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


def _beside(
    bench: Bench,
    what: str,
    timings: Mapping[str, Timing],
    peers: list[str],
    tokens: int,
    goals: Mapping[tuple[str, str], float],
) -> list[Row]:
    """Theirs, and ours over theirs, of `tokens` tokens each."""
    rows, unit = [], "tokens/s"
    for name in peers:
        timing, other = timings[name], f"llama.cpp {name}"
        value, ratio = tokens / timing.median, timings["2"].median / timing.median
        rows.append(
            bench.row(f"{what}, {other}", timing, value, unit, ratio, "2 bits", path="llama.cpp")
        )
        for bits in PLANES:
            ours, goal = timings[bits], bench.goal(least=goals.get((bits, name)))
            value, ratio = tokens / ours.median, timing.median / ours.median
            label = f"{what}, {bits} bits beside {name}"
            rows.append(bench.row(label, ours, value, unit, ratio, other, goal))
    return rows


def _prefill(engine: Engine | LlamaPeer, prompts: Prompts, tokens: int) -> float:
    return engine.prefill(prompts.next(tokens))


def _read(planes: list[Plane], form: int) -> float:
    """Seconds to read the codes once."""
    parts = [words(plane) for plane in planes]
    began = time.perf_counter()
    for part in parts:
        references.read_words(part, form)
    return time.perf_counter() - began


def _multiply_add() -> float:
    """Seconds of one bare multiply-add."""
    references.synchronise(2, True)
    began = time.perf_counter()
    done = sum(references.repeat_dots(DOT_ROUNDS) for _ in range(8))
    return (time.perf_counter() - began) / done
