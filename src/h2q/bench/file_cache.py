"""Files put out of the system's cache, proven by asking it, and how fast the disk reads them."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from h2q.core.errors import ResourceError
from h2q.core.paging import forget_file, resident

LEFT = 0.01  # of a file may stay in memory when it counts as cold
TRIES = 5
BLOCK = 4 << 20


def cached(path: Path) -> int:
    """Bytes of a file in memory, whole pages."""
    with (
        path.open("rb") as file,
        contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as mapped,
    ):
        data = np.frombuffer(mapped, np.uint8)
        found = resident(data.ctypes.data, data.nbytes)
        del data
    return found


def chill(paths: Iterable[Path]) -> None:
    """Put files out of memory. Raises ResourceError when the system keeps them."""
    for path in paths:
        for attempt in range(TRIES):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                forget_file(handle)
            finally:
                os.close(handle)
            if cached(path) <= LEFT * path.stat().st_size:
                break
            time.sleep(0.05 * (attempt + 1))
        else:
            raise ResourceError("The system keeps a file in memory.", where=path.name)


def warm(paths: Iterable[Path]) -> None:
    """Bring files into memory."""
    room = bytearray(BLOCK)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass


def bandwidth(path: Path, threads: int) -> float:
    """Bytes a second when so many threads read a cold file by blocks, in order."""
    chill([path])
    size, taken, lock = path.stat().st_size, [0], threading.Lock()
    handle = os.open(path, os.O_RDONLY)

    def run() -> None:
        room = bytearray(BLOCK)
        while True:
            with lock:
                begin = taken[0]
                taken[0] += BLOCK
            if begin >= size or not os.preadv(handle, [room], begin):
                return

    try:
        workers = [threading.Thread(target=run) for _ in range(threads)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return size / (time.perf_counter() - began)
    finally:
        os.close(handle)
