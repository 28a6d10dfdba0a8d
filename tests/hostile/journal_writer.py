"""A process that writes journal entries until something stops it."""

from __future__ import annotations

import itertools
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from h2q.core.errors import H2QError
from h2q.crystallize.journal import Journal

KEY = "k" * 64


def content(number: int) -> dict[str, np.ndarray]:
    """What entry `number` holds, the same in every process."""
    draw = np.random.default_rng(number)
    return {
        "codes": draw.integers(0, 256, (5 + number % 3, 64), np.uint8),
        "moments": draw.standard_normal((17, 17)),
        "scales": draw.integers(0, 1 << 16, 33, np.uint16),
        "none": np.zeros((0, 4), np.float32),
    }


def main(folder: str, limit: int) -> None:
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        journal = Journal(Path(folder), KEY)
        for number in itertools.count():
            journal.put(f"entry {number}", content(number), {"number": number})
            print(number, flush=True)
    except H2QError as error:
        print(type(error).__name__, error)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
