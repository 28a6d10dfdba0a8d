"""What `h2q bench start` measures, a function for each group of rows."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from h2q import kernels
from h2q.bench.activation import activations
from h2q.bench.file_cache import bandwidth, chill, warm
from h2q.bench.random_crystal import EIGHT_TOKENS as PROMPT
from h2q.bench.random_crystal import write_random
from h2q.bench.random_model import DEFAULT_SHAPE, SHAPES, TRIAL
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Timing
from h2q.core.errors import ResourceError

MIX, CONTEXT, PROMPT_TOKENS = "Q4_K_M", 2048, 8
START_GOAL, COLD_RATIO, ACTIVATION_GOAL = 0.45, 1.5, 0.15  # seconds, times, seconds
READ_GOAL, SLOWDOWN_GOAL, DROP_GOAL = 1.01, 1.15, 0.2  # of the base, of a token's time, seconds
LEAK_GOAL = 4 << 20  # bytes over all requests
REQUESTS, TRIAL_REQUESTS = 10_000, 60
SHARES = (4.0, 1.1, 0.85, 0.6, 0.2)  # budgets: of the bytes of all shards
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
BESIDE = 160 << 20  # interpreter, scratch, a small cache


class Starts:
    """What all groups of rows share."""

    def __init__(self, shape: str, repeats: int, crystal: Path, peer: Path | None) -> None:
        self.repeats, self.crystal, self.peer = repeats, crystal, peer
        self.goals = shape == DEFAULT_SHAPE
        self.details: dict[str, Any] = {}
        self.shards = sorted(crystal.glob("*.safetensors"))
        self.base = crystal / "base.safetensors"
        self.files = [*self.shards, crystal / "tokenizer.json", crystal / "crystal.json"]
        self.run(1)  # leaves bytecode behind, as anybody's first start does

    def run(self, tokens: int, *more: str) -> dict[str, Any]:
        """One `h2q run` in a new process: its document."""
        command = ["h2q", "run", str(self.crystal), PROMPT, "--json", "--seed", "5"]
        return child([*command, "--temperature", "1", "--max-tokens", str(tokens), *more])

    def ask(self, what: str, *more: int) -> dict[str, Any]:
        return child(["h2q.bench.start_child", what, str(self.crystal), *map(str, more)])

    def row(
        self,
        name: str,
        times: Sequence[float],
        value: float,
        unit: str,
        ratio: float,
        ratio_to: str,
        target: Target | None = None,
        path: str = "",
    ) -> Row:
        timing = Timing(min(times), statistics.median(times), len(times))
        used = target if self.goals else None
        return Row(
            name,
            path or kernels.path(),
            kernels.threads(),
            timing,
            value,
            unit,
            ratio,
            ratio_to,
            used,
        )


def child(command: Sequence[str]) -> dict[str, Any]:
    """What `python -m COMMAND` says last on stdout. Python may write bytecode, as it may where a
    person starts it. Raises ResourceError when it fails.
    """
    settings = {key: value for key, value in os.environ.items() if key != NO_BYTECODE}
    whole = [sys.executable, "-m", *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=settings)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ResourceError(f"A process that is measured ended: {last}", where=command[0])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def stage(document: dict[str, Any], name: str) -> float:
    """Seconds from the birth of a process to a stage. Raises ResourceError when it was not
    reached.
    """
    for row in document["timeline"]:
        if row["stage"] == name:
            return float(row["seconds"])
    raise ResourceError(f"The start never came to {name!r}.")


def first_rows(starts: Starts) -> list[Row]:
    """The first token of an eight-token prompt, warm and cold, in turns with the peer."""
    times: dict[str, list[float]] = {"warm": [], "cold": [], "peer warm": [], "peer cold": []}
    peaks: list[int] = []
    speeds = []
    for _ in range(starts.repeats):
        for kind in ("warm", "cold"):
            _make(kind, starts.files)
            told = starts.run(1)
            if told["prompt_tokens"] != PROMPT_TOKENS:
                raise ResourceError("The prompt has not eight tokens.")
            times[kind].append(stage(told, "first token"))
            peaks.append(told["peak_rss_bytes"])
            if starts.peer is not None:
                _make(kind, [starts.peer])
                times[f"peer {kind}"].append(_peer(starts)["seconds"])
        speeds.append(max(bandwidth(starts.base, threads) for threads in (1, 4)))
    speed, size = statistics.median(speeds), starts.base.stat().st_size
    chill(starts.files)
    read = starts.ask("first")
    allowed = size / speed + START_GOAL
    starts.details["first"] = {**times, "bandwidth": speeds, "read": read, "cold_goal": allowed}
    rows = [
        _first(starts, "warm", times, Target("value", most=START_GOAL)),
        _first(starts, "cold", times, Target("value", most=allowed)),
    ]
    if starts.peer is not None:
        ours, theirs = (statistics.median(times[name]) for name in ("cold", "peer cold"))
        goal = Target("ratio", least=COLD_RATIO)
        name = f"cold start beside llama.cpp {MIX}"
        rows.append(
            starts.row(name, times["cold"], ours, "s", theirs / ours, "llama.cpp, cold", goal)
        )
    total = sum(read["bytes"].values())
    bytes_goal = Target("ratio", most=READ_GOAL)
    name = "crystal bytes read before the first token"
    to = "the base shard"
    rows.append(starts.row(name, [read["seconds"]], total, "B", total / size, to, bytes_goal))
    peak = statistics.median(peaks)
    name = "peak memory at the first token"
    rows.append(starts.row(name, times["warm"], peak, "B", peak / size, to))
    return rows


def _first(starts: Starts, kind: str, times: dict[str, list[float]], goal: Target) -> Row:
    ours, theirs = times[kind], times[f"peer {kind}"]
    value = statistics.median(ours)
    ratio = value / statistics.median(theirs) if theirs else value / START_GOAL
    to = f"llama.cpp {MIX}, {kind}" if theirs else f"{START_GOAL} s"
    return starts.row(f"process start to first token, {kind}", ours, value, "s", ratio, to, goal)


def _make(kind: str, files: Sequence[Path]) -> None:
    warm(files) if kind == "warm" else chill(files)


def _peer(starts: Starts) -> dict[str, Any]:
    sizes = (kernels.threads(), CONTEXT, PROMPT_TOKENS)
    return child(["h2q.bench.start_peer", str(starts.peer), *map(str, sizes)])


def refinement_rows(starts: Starts) -> list[Row]:
    """Time to full quality from cold files, and what refinement costs the tokens meanwhile."""
    times, tokens = [], 40 if starts.goals else 200
    for _ in range(starts.repeats):
        for attempt in range(4):
            chill(starts.files)
            told = starts.run(tokens << attempt)
            if any(row["stage"] == "full quality" for row in told["timeline"]):
                break
        times.append(stage(told, "full quality"))
    size = sum(shard.stat().st_size for shard in starts.shards)
    value = statistics.median(times)
    cost = starts.ask("streaming", 200)  # refinement comes in during the first half
    starts.details["refinement"] = {"full": times, "timeline": told["timeline"], "cost": cost}
    name, to = "process start to full quality, cold", "GB of crystal a second"
    rows = [starts.row(name, times, value, "s", size / value / 1e9, to)]
    if cost["during"] and cost["alone"]:  # a trial's refinement is there before two tokens are
        during, alone = (statistics.median(cost[name]) for name in ("during", "alone"))
        goal, to = Target("ratio", most=SLOWDOWN_GOAL), "the same tokens with nothing streaming"
        name = "a token while refinement streams in"
        rows.append(starts.row(name, cost["during"], during, "s", during / alone, to, goal))
    return rows


def activation_rows(starts: Starts) -> list[Row]:
    """A worker that takes a spare process: from the order to the first token, all files warm."""
    warm(starts.files)
    times = activations(starts.crystal, PROMPT, starts.repeats + 1)[1:]
    starts.details["activation"] = times
    value, goal = statistics.median(times), Target("value", most=ACTIVATION_GOAL)
    name, to = "activation with a warm spare process", f"{ACTIVATION_GOAL} s"
    return [starts.row(name, times, value, "s", value / ACTIVATION_GOAL, to, goal)]


def drop_rows(starts: Starts) -> list[Row]:
    """How long a dropped plane's memory takes to come back; the slowest of all planes."""
    warm(starts.files)
    taken = starts.ask("drop")["seconds"]
    starts.details["drop"] = taken
    value, goal = max(taken), Target("value", most=DROP_GOAL)
    name, to = "a dropped plane's memory is back", f"{DROP_GOAL} s"
    return [starts.row(name, taken, value, "s", value / DROP_GOAL, to, goal)]


def budget_rows(starts: Starts) -> list[Row]:
    """Promises of several sizes, each kept by a process of its own; what is worst above any."""
    size = sum(shard.stat().st_size for shard in starts.shards)
    runs = [starts.ask("budget", int(share * size) + BESIDE, 512, 48) for share in SHARES]
    starts.details["budget"] = runs
    above = max(run["peak"] - run["memory"] for run in runs)
    nearest = max(run["peak"] / run["memory"] for run in runs)
    goal, to = Target("value", most=0), "the promise, at the nearest"
    rows = [starts.row("resident set above the promise", [0.0], above, "B", nearest, to, goal)]
    for run in runs:
        if run["streamed"]:
            speed = run["tokens_per_second"]
            ratio, to = speed / run["expected"], "what the warning expected"
            name = "layers streamed from the disk"
            rows.append(starts.row(name, [1 / speed], speed, "tokens/s", ratio, to))
    return rows


def request_rows(starts: Starts) -> list[Row]:
    """Growth of the resident set over many requests to a small model."""
    with tempfile.TemporaryDirectory() as folder:
        small = write_random(Path(folder) / "small.crystal", SHAPES[TRIAL])
        count = REQUESTS if starts.goals else TRIAL_REQUESTS
        found = child(["h2q.bench.start_child", "requests", str(small), str(count)])
    starts.details["requests"] = {"count": count, **found}
    grown = found["after"] - found["before"]
    goal, to = Target("value", most=LEAK_GOAL), "the resident set after a tenth of them"
    name = f"growth over {count:,} requests"
    return [starts.row(name, [0.0], grown, "B", found["after"] / found["before"], to, goal)]


ROWS: dict[str, Callable[[Starts], list[Row]]] = {
    "first": first_rows,
    "refinement": refinement_rows,
    "activation": activation_rows,
    "drop": drop_rows,
    "budget": budget_rows,
    "requests": request_rows,
}
