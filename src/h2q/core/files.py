"""Reading files nobody vouches for: only plain files are opened, and no more is read than a limit.

A pipe would block for ever, a device has no end, and the size of a growing file is a guess.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from h2q.core.errors import H2QError


@contextmanager
def plain_file(path: Path, error: type[H2QError]) -> Iterator[tuple[BinaryIO, int]]:
    """An opened file and its size in bytes. Raises `error` when it is missing, no plain file, or
    cannot be read while it is open.
    """
    try:
        # Opening a pipe that nobody writes to returns at once with O_NONBLOCK; the kind is then
        # that of what was opened, whatever happens to the name.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise error("This is not a plain file.", where=path.name)
            yield file, found.st_size
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        told = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise error(f"The file cannot be read: {told}.", where=path.name) from problem


def read_bounded(path: Path, limit: int, error: type[H2QError]) -> bytes:
    """The whole of a plain file of at most `limit` bytes. Raises `error`."""
    with plain_file(path, error) as (file, size):
        if size > limit:
            raise error(f"The file is larger than {limit:,} bytes.", where=path.name)
        data = file.read(size + 1)  # never more at once than the file says it has
    if len(data) != size:
        raise error("The file changed while it was read.", where=path.name)
    return data
