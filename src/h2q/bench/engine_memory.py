"""Resident memory of a process that does nothing but run a model: `measured` starts one and asks.

The model is read from nothing: random codes lie where mapped ones would. The cache is written to
its last position, a prompt is read and some tokens are said; the peak counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from h2q.core.errors import KernelError, ResourceError

ROOM = 120 * 10**6  # bytes above weights and cache: interpreter, libraries, what a step needs


@dataclass(frozen=True)
class Memory:
    """Bytes: the peak of the resident set, weights, cache, and what was there before the model."""

    peak: int
    weights: int
    cache: int
    before: int

    @property
    def above(self) -> int:
        return self.peak - self.weights - self.cache


def measured(shape: str, prefill: int, context: int) -> Memory:
    """Of a new process, at two bits. Raises ResourceError when it fails."""
    command = [sys.executable, "-m", __name__, shape, str(prefill), str(context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ResourceError(f"The process whose memory is measured ended: {last}")
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def main(shape: str, prefill: int, context: int) -> None:
    """In the new process: one JSON object on stdout."""
    from h2q.bench.engine_runs import Engine, Prompts
    from h2q.bench.random_model import SHAPES, RandomWeights
    from h2q.core.memory import peak_rss_bytes

    before = peak_rss_bytes()
    spec = SHAPES[shape]
    weights = RandomWeights(spec, (2,))
    engine = Engine(weights.model(1), context)
    for layer in engine.pool.layers:
        for array in layer.arrays:
            array.fill(0)  # as if every position had been stored
    prompts = Prompts(spec)
    engine.prefill(prompts.next(prefill))
    engine.decode([prompts.next(16)], 4)
    found = Memory(peak_rss_bytes(), weights.byte_count(1), engine.pool.byte_count, before)
    if not 0 < found.before <= found.peak:
        raise KernelError("The system tells no resident set.")
    sys.stdout.write(json.dumps(vars(found)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
