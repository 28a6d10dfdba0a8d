"""What the server costs by itself: a scripted engine behind it that costs next to nothing.

Processor time is the server process's, without what the scripted engine takes alone; it is a ratio
to a bare socket that writes the same bytes for the same engine on the same loop. One core serves,
the client has another. Then `h2q serve` itself with a crystal of the seed model.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from h2q.bench.machine import Neighbours, machine
from h2q.bench.serve_client import OLLAMA, WIRES, Child, Wire, child, said, whole_stream
from h2q.bench.serve_crowd import crowd
from h2q.bench.serve_whole import MODEL as SEED_MODEL
from h2q.bench.serve_whole import home, middle, product, sent_after_leaving, starts, worker_of
from h2q.core.events import Progress, ProgressListener, silent

MODEL = "scripted"
PAUSE = 0.002  # seconds between tokens where they come one by one
CROWD_TOKENS = 256  # of one answer to one of a crowd
MOST_CPU, LEAST_SPEED, LEAST_FAIR, MOST_GROWTH, MOST_AFTER = 60e-6, 2000.0, 1 / 3, 1.02, 1.0
MOST_START = 0.8  # seconds


@dataclass(frozen=True)
class ServeOptions:
    """How long the crowd stays, seconds, and how many they are; tokens of one measured stream, and
    of one whose tokens come one by one; clients that leave in the middle. crystal: of the seed
    model, or any other small one; without it one is grown.
    """

    seconds: float = 300.0
    clients: int = 64
    tokens: int = 40_000
    paced_tokens: int = 1_000
    leaves: int = 50
    crystal: Path | None = None


@dataclass(frozen=True)
class Cost:
    """Of one stream: processor seconds per token of the server, tokens per second."""

    cpu: float
    speed: float


def bench_serve(
    options: ServeOptions | None = None, listen: ProgressListener = silent
) -> dict[str, Any]:
    """Plain JSON types: `results` by name, each with its value and perhaps a goal."""
    options, neighbours = options or ServeOptions(), Neighbours()
    results: dict[str, Any] = {}
    with child("bare") as bare:
        for pause in (0.0, PAUSE):
            with child("scripted", pause) as server:
                listen(Progress("one stream", pause > 0, 2))
                results |= _streams(server, bare, pause, options)
                if pause:
                    results |= _leaving(server, options.leaves, listen)
                else:
                    results |= _crowd(server, MODEL, options, listen)
    with home(options.crystal, listen) as root:
        results |= _starts(root, listen)
        with product(root) as server:
            results |= _seed(server, options, listen)
    return {
        "machine": machine(),
        "options": {**asdict(options), "crystal": options.crystal and options.crystal.name},
        "busy_elsewhere": neighbours.share(),
        "results": results,
    }


def _streams(server: Child, bare: Child, pause: float, options: ServeOptions) -> dict[str, Any]:
    """Processor time per token and, at full speed, tokens/s of one stream in each dialect."""
    tokens, kind = (options.paced_tokens, "paced") if pause else (options.tokens, "stream")
    ask = b"GET /%s/%d/%f HTTP/1.1\r\n\r\n"
    alone = _best(bare, ask % (b"nothing", tokens, pause), tokens, None).cpu
    floor = _best(bare, ask % (b"line", tokens, pause), tokens, None)
    results: dict[str, Any] = {}
    for wire in WIRES:
        cost = _best(server, wire.request(MODEL, tokens), tokens, wire)
        results[f"cpu per token, {wire.name}, {kind}"] = {
            "tokens": tokens,
            "pause_seconds": pause,
            "engine_alone": alone,
            **_row(
                cost.cpu - alone,
                "s",
                (cost.cpu - alone) / max(1e-9, floor.cpu - alone),
                "bare socket",
                most=MOST_CPU,
            ),
        }
        if not pause:
            results[f"one stream, {wire.name}"] = _row(
                cost.speed,
                "tokens/s",
                cost.speed / floor.speed,
                "bare socket",
                least=LEAST_SPEED,
            )
    return results


def _best(server: Child, request: bytes, tokens: int, wire: Wire | None) -> Cost:
    """The better of two, after one that warms up."""
    costs = []
    for _ in range(3):
        before = server.cpu()
        seconds, answer = whole_stream(server, request)
        found = said(answer, wire) if wire else tokens
        assert found == tokens, f"{found} pieces of {tokens}"
        costs.append(Cost((server.cpu() - before) / tokens, tokens / seconds))
    return Cost(min(cost.cpu for cost in costs[1:]), max(cost.speed for cost in costs[1:]))


def _leaving(server: Child, leaves: int, listen: ProgressListener) -> dict[str, Any]:
    """Tokens that the engine made after clients had closed their connections."""
    after = list[int]()
    for number in range(leaves):
        listen(Progress("leaving clients", number, leaves))
        with server.connect(OLLAMA.request(MODEL, 1 << 30)) as connection:
            for _ in range(5):
                connection.recv(1 << 16)
        closed = time.perf_counter()
        time.sleep(0.05)
        made = server.get("/bench/times")
        after.append(sum(moment > closed for moment in made["times"]))
        assert made["leases"] == 0, "a stream goes on after its client left"
    listen(Progress("leaving clients", leaves, leaves))
    row = _row(max(after), "tokens", sum(after) / len(after), "one client", most=MOST_AFTER)
    return {"made after leaving": {"clients": leaves, "pause_seconds": PAUSE, **row}}


def _starts(root: Path, listen: ProgressListener) -> dict[str, Any]:
    listen(Progress("starting h2q serve", 0, 1))
    nothing, listening, answered = map(middle, starts(root))
    listen(Progress("starting h2q serve", 1, 1))
    return {
        "h2q serve listens": _row(listening, "s", listening / nothing, "python -c pass"),
        "h2q serve answers": _row(
            answered, "s", answered / nothing, "python -c pass", most=MOST_START
        ),
    }


def _seed(server: Child, options: ServeOptions, listen: ProgressListener) -> dict[str, Any]:
    """The same crowd before a real model in a process of its own, and clients that leave it."""
    counts = sent_after_leaving(server, options.leaves)
    row = _row(max(counts), "tokens", sum(counts) / len(counts), "one client", most=MOST_AFTER)
    results: dict[str, Any] = {"seed, sent after leaving": {"clients": options.leaves, **row}}
    worker = worker_of(server)
    before = worker.memory_info().rss
    results |= _crowd(server, SEED_MODEL, options, listen)
    after = worker.memory_info().rss
    grown = after / before
    results["seed, worker's memory"] = _row(after, "B", grown, "before the crowd")
    return results


def _crowd(
    server: Child, model: str, options: ServeOptions, listen: ProgressListener
) -> dict[str, Any]:
    seen = crowd(server, WIRES, model, options.clients, CROWD_TOKENS, options.seconds, listen)
    name = f"{model}, {options.clients} clients"
    count, answers = len(seen.errors), seen.answers
    return {
        f"{name}, errors": {
            "answers": answers,
            "said": seen.errors[:5],
            **_row(count, "errors", count / max(1, answers), "answer", most=0),
        },
        f"{name}, all streams": _row(seen.tokens_per_second, "tokens/s", 1.0, "itself"),
        f"{name}, memory growth": {
            "resident": seen.resident[-1],
            **_row(seen.growth, "x", seen.growth, "after warming up", most=MOST_GROWTH),
        },
        f"{name}, slowest client": _row(
            seen.fairness, "x", seen.fairness, "fastest", least=LEAST_FAIR
        ),
        f"{name}, slowest answer": _row(
            seen.stream_fairness, "x", seen.stream_fairness, "fastest", least=LEAST_FAIR
        ),
    }


def _row(
    value: float,
    unit: str,
    ratio: float,
    ratio_to: str,
    least: float | None = None,
    most: float | None = None,
) -> dict[str, Any]:
    """A figure as other benchmarks write theirs."""
    row: dict[str, Any] = {"value": value, "unit": unit, "ratio": ratio, "ratio_to": ratio_to}
    if least is not None:
        row["target"] = {"of": "value", "least": least, "reached": value >= least}
    if most is not None:
        row["target"] = {"of": "value", "most": most, "reached": value <= most}
    return row
