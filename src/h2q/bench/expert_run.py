"""One process that does nothing but say some tokens with a mixture of experts within a budget:
`measured` starts it and asks.

The resident set is sampled through the whole life of the model, and the system's own high-water
mark of the process is told. With `cold` nothing of the crystal is in the system's cache when it
starts, and what experts leave is dropped from there too, as on a machine of no more memory.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from h2q.core.errors import ResourceError
from h2q.core.paging import forget_file

PROMPT = "Once upon a time there was a king who had three daughters and a garden. "
REPEATED = 2
BETWEEN = 0.02  # seconds between two looks at the resident set


@dataclass(frozen=True)
class ExpertRun:
    """Bytes, seconds, tokens. `peak`: the high-water mark of the process. `samples` looks at the
    resident set gave `median` and `highest`. Of decoding: `per_token`, `hit_rate`, `degraded` (a
    share of all), `stall` and `read` per token; `device`: bytes that the disk gave, per token.
    `experts` may be in memory of `every` byte of them. `text`: a digest of all tokens.
    """

    budget: int
    peak: int
    samples: int
    median: int
    highest: int
    start: float
    first: float
    per_token: float
    tokens: int
    text: str
    hit_rate: float = 1.0
    degraded: float = 0.0
    stall: float = 0.0
    read: float = 0.0
    device: float = 0.0
    foreseen: int = 0
    foreseen_used: int = 0
    experts: int = 0
    experts_peak: int = 0
    every: int = 0
    expected: float = 0.0


def measured(crystal: Path, memory: int, tokens: int, cold: bool, pin: int = 0) -> ExpertRun:
    """Of a new process. memory: its budget, 0 for none, negative for so many bytes above the least
    it can have. pin: planes that are fixed, 0 for none. Raises ResourceError when it fails.
    """
    if cold:
        for shard in crystal.glob("*.safetensors"):
            with shard.open("rb") as file:
                forget_file(file.fileno())
    told = (str(crystal), str(memory), str(tokens), str(int(cold)), str(pin))
    command = [sys.executable, "-m", __name__, *told]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ResourceError(f"The process that was measured ended: {last}")
    return ExpertRun(**json.loads(done.stdout.splitlines()[-1]))


class Watch:
    """Looks at the resident set of this process again and again."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from h2q.runtime.process import rss_bytes

        while not self._end.wait(BETWEEN):
            self.seen.append(rss_bytes())

    def close(self) -> list[int]:
        """All looks, rising."""
        self._end.set()
        self._thread.join()
        return sorted(self.seen)


def main(crystal: str, memory: int, tokens: int, cold: int, pin: int) -> None:
    """In the new process: one JSON object on stdout."""
    from h2q.core.asks import Ask
    from h2q.core.expert_tally import ExpertTally
    from h2q.core.memory import peak_rss_bytes
    from h2q.core.sampling_options import SamplingOptions
    from h2q.runtime.hot_start import HotStartManager
    from h2q.runtime.mixed import Mixed

    if memory < 0:
        memory = least_memory(crystal) - memory
    watch, began = Watch(), time.perf_counter()
    service = HotStartManager().start(Path(crystal), memory=memory or None, pin=pin or None)
    started = service.started
    if isinstance(started, Mixed):
        started.store.forget = bool(cold)
    ready = time.perf_counter()
    digest, said, first = hashlib.sha256(), 0, 0.0
    before, disk = started.experts or ExpertTally(0, 0, 0, 0), 0
    sampling = SamplingOptions(temperature=1.0, seed=3, max_tokens=tokens)
    for event in service.generate(Ask(prompt=PROMPT * REPEATED, raw=True, sampling=sampling)):
        if event.token < 0:
            continue
        digest.update(event.token.to_bytes(4, "little"))
        said += 1
        if said == 1:
            first, before, disk = time.perf_counter(), started.experts or before, disk_bytes()
    each = max(1, said - 1)
    after, taken = started.experts or before, time.perf_counter() - first
    runs = max(1, after.runs - before.runs)
    seen = watch.close()
    found = ExpertRun(
        budget=memory,
        peak=max(peak_rss_bytes(), seen[-1]),  # the mark may lag by some pages
        samples=len(seen),
        median=seen[len(seen) // 2],
        highest=seen[-1],
        start=ready - began,
        first=first - ready,
        per_token=taken / each,
        tokens=said,
        text=digest.hexdigest(),
        hit_rate=1 - (after.misses - before.misses) / runs,
        degraded=(after.degraded - before.degraded) / runs,
        stall=(after.stall - before.stall) / each,
        read=(after.read - before.read) / each,
        device=(disk_bytes() - disk) / each,
        foreseen=after.foreseen,
        foreseen_used=after.foreseen_used,
        experts=after.budget,
        experts_peak=after.peak,
        every=after.every,
        expected=min(1e9, started.expected) if isinstance(started, Mixed) else 0.0,
    )
    service.close()
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


def least_memory(crystal: str) -> int:
    """The smallest budget that this process could have for it, to a MiB."""
    from h2q.crystal import open_crystal
    from h2q.runtime.expert_budget import expert_plan
    from h2q.runtime.process import rss_bytes
    from h2q.runtime.worker import Order
    from h2q.text.tokenizer import Tokenizer

    opened = open_crystal(Path(crystal))
    Tokenizer(opened.tokenizer_path)
    memory = held = rss_bytes()
    while True:
        try:
            expert_plan(opened, Order(crystal, memory=memory, streams=1), held)
            return memory
        except ResourceError:
            memory += 1 << 20


def disk_bytes() -> int:
    """What devices have given this process so far; 0 where the system does not tell."""
    told = Path("/proc/self/io")
    if not told.exists():
        return 0
    fields = dict(line.split(": ") for line in told.read_text().splitlines())
    return int(fields["read_bytes"])


if __name__ == "__main__":
    path, *numbers = sys.argv[1:]
    main(path, *map(int, numbers))
