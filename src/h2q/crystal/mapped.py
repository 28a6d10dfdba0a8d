"""Pages of mapped files: asked for ahead of time, brought into memory, let go again.

Nothing here changes what is read. A page that was let go comes back when it is touched, only later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.core import paging

AROUND = 64 << 10  # with a page that is touched Linux maps those around it, to such borders


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
