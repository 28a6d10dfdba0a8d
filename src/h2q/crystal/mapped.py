"""Pages of mapped files: asked for ahead of time, brought into memory, let go again.

Nothing here changes what is read. A page that was let go comes back when it is touched, only later.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core import paging

AROUND = 64 << 10  # with a page that is touched Linux maps those around it, to such borders
PROBES, PROBE_BYTES, PROBE_SECONDS = 16, 2 << 20, 0.5


@dataclass(frozen=True)
class Stretch:
    """Whole pages of a mapped file: `data` from byte `begin` of the file at `path` on, uint8;
    `around`: those and all that may come into memory with them.
    """

    path: Path
    begin: int
    data: npt.NDArray[np.uint8]
    around: npt.NDArray[np.uint8]


def stretches(
    path: Path, data: npt.NDArray[np.uint8], spans: Iterable[tuple[int, int]]
) -> list[Stretch]:
    """The pages that hold the spans (begin, end) of a mapped file; spans that touch are joined.
    data: uint8, all of the file.
    """
    page, joined = paging.PAGE, list[list[int]]()
    for begin, end in sorted(spans):
        begin, end = begin // page * page, min(len(data), -(-end // page) * page)
        if joined and begin <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return [
        Stretch(
            path,
            begin,
            data[begin:end],
            data[begin // AROUND * AROUND : -(-end // AROUND) * AROUND],
        )
        for begin, end in joined
    ]


def byte_count(parts: Sequence[Stretch]) -> int:
    """Bytes of memory that all of them take at most."""
    return sum(part.around.nbytes for part in parts)


def at_random(parts: Iterable[Stretch]) -> None:
    """See core.paging.at_random."""
    for part in parts:
        paging.at_random(part.data.ctypes.data, part.data.nbytes)


def ask(parts: Iterable[Stretch]) -> None:
    """See core.paging.ask."""
    for part in parts:
        paging.ask(part.data.ctypes.data, part.data.nbytes)


def bring(parts: Sequence[Stretch]) -> None:
    """Have all pages in this process's memory when this returns. Other threads go on meanwhile."""
    ask(parts)
    for part in parts:
        paging.populate(part.data.ctypes.data, part.data.nbytes)


def let_go(parts: Iterable[Stretch]) -> None:
    """Give the pages back; the system may keep what it read as long as it has room. Pages around
    that somebody still needs come again when they are touched.
    """
    for part in parts:
        paging.release(part.around.ctypes.data, part.around.nbytes)


def forget(parts: Iterable[Stretch]) -> None:
    """Have the system drop what it kept of pages that were let go, so that they are read from the
    disk again.
    """
    for part in parts:
        with contextlib.suppress(OSError), part.path.open("rb") as file:
            paging.forget_file(file.fileno(), part.begin, part.data.nbytes)


def read_speed(parts: Sequence[Stretch]) -> float:
    """Bytes a second that the disk gives, measured on a few MiB of what lies there, past what the
    system keeps of it; where that cannot be had, with it. 0 where nothing can be read.
    """
    chosen = [parts[i] for i in np.linspace(0, len(parts) - 1, min(PROBES, len(parts))).astype(int)]
    for direct in (getattr(os, "O_DIRECT", 0), 0):
        with contextlib.suppress(OSError):
            return _read_speed(chosen, direct)
    return 0.0


def _read_speed(parts: Sequence[Stretch], flags: int) -> float:
    done, taken = 0, 0.0
    with mmap.mmap(-1, PROBE_BYTES) as room:
        for part in parts:
            size = min(PROBE_BYTES, part.data.nbytes // paging.PAGE * paging.PAGE)
            handle = os.open(part.path, os.O_RDONLY | flags)
            try:
                began = time.perf_counter()
                with memoryview(room)[:size] as place:
                    done += os.preadv(handle, [place], part.begin)
                taken += time.perf_counter() - began
            finally:
                os.close(handle)
            if taken > PROBE_SECONDS:
                break
    return done / taken if taken else 0.0
