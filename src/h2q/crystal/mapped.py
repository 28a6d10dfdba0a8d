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


@dataclass(frozen=True)
class Stretch:
    """Whole pages of a mapped file: `data` from byte `begin` of the file at `path` on, uint8."""

    path: Path
    begin: int
    data: npt.NDArray[np.uint8]


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
    return [Stretch(path, begin, data[begin:end]) for begin, end in joined]


def byte_count(parts: Sequence[Stretch]) -> int:
    """Bytes of all of them."""
    return sum(part.data.nbytes for part in parts)


def at_random(parts: Iterable[Stretch], odd: bool) -> None:
    """See core.paging.at_random. The outermost pages may be a neighbour's too, so they are left
    as they are: mappings of one page, from which nothing else can be reached.
    """
    for part in parts:
        inner = part.data[paging.PAGE : -paging.PAGE]
        if len(inner):
            paging.at_random(inner.ctypes.data, inner.nbytes, odd)


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
    """Give the pages back; the system may keep what it read as long as it has room."""
    for part in parts:
        paging.release(part.data.ctypes.data, part.data.nbytes)


def forget(parts: Iterable[Stretch]) -> None:
    """Have the system drop what it kept of pages that were let go, so that they are read from the
    disk again.
    """
    for part in parts:
        with contextlib.suppress(OSError), part.path.open("rb") as file:
            paging.forget_file(file.fileno(), part.begin, part.data.nbytes)
