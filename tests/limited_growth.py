"""Grows a crystal in a process whose data may not grow by more than so many bytes, which the kernel
enforces (RLIMIT_DATA):

    python tests/limited_growth.py SOURCE TARGET BYTES
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from h2q.core.errors import H2QError
from h2q.core.memory import free_bytes
from h2q.crystallize import ModelCrystallizationEngine
from h2q.crystallize.budget import parameters
from h2q.crystallize.towers import Matrix, add_plane
from h2q.sources import open_source
from h2q.text import Tokenizer
from small_llamas import BRIEF


def main(folder: Path, target: Path, room: int) -> None:
    source = open_source(folder)
    # Libraries, their threads and buffers are there before the limit is.
    add_plane(Matrix("warm", np.eye(512, dtype=np.float32)), None, 2, 0.0)
    Tokenizer.from_json(source.tokenizer_json()).encode("warm")
    np.linalg.eigvalsh(np.linalg.cholesky(np.linalg.solve(np.eye(512), np.eye(512))))
    ctypes.CDLL(None).malloc_trim(0)
    limit = psutil.Process().memory_info().data + room
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        np.ones(parameters(source.spec), np.float32)
        fits = True
    except MemoryError:
        fits = False
    free = free_bytes()
    options = replace(BRIEF, ratio=26.0, calibration_length=24, measured_length=24)
    try:
        ModelCrystallizationEngine(source, options).grow(target)
    except H2QError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    used = psutil.Process().memory_info().data
    print(json.dumps({"limit": limit, "fits": fits, "free": free, "used": used}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
