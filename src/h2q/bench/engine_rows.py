"""Speeds of `h2q bench engine`: decoding, prefill, many streams. Values and ratios are those of the
median.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from h2q.bench.engine_bench import PLANES, Bench
from h2q.bench.engine_runs import Engine, Prompts, Run, in_turns
from h2q.bench.llama_peer import LlamaPeer
from h2q.bench.materials import words
from h2q.bench.references import DOT_ROUNDS
from h2q.bench.rows import Row
from h2q.bench.timing import Timing
from h2q.codec.planes import Plane
from h2q.kernels import references

DECODING_PEERS, PREFILL_PEERS = ("Q4_K_M", "Q2_K"), ("Q4_0",)
DECODING_GOALS = {("2", "Q4_K_M"): 2.5, ("2", "Q2_K"): 8.0, ("2+2", "Q4_K_M"): 1.35}
PREFILL_GOALS = {("2", "Q4_0"): 2.5}
STREAMS_GOAL = 3.5
LONG = 400  # calls in a row


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
        ratio = adds * timings["multiply-adds"].best / timing.median
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
    """Seconds of one bare multiply-add, over long enough that waking threads does not count."""
    references.synchronise(2, True)
    began = time.perf_counter()
    done = sum(references.repeat_dots(DOT_ROUNDS) for _ in range(LONG))
    return (time.perf_counter() - began) / done
