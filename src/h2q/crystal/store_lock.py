"""Who may remove from a store: nobody while somebody adds. Many add at once; the one that removes
is alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 2.0
PAUSE_SECONDS = 0.02


class StoreLock:
    """A file that processes and threads lock through the kernel, which lets go of it when they
    die.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def shared(self) -> Iterator[None]:
        """For adding and mending. Without a lock where nothing can be written."""
        handle = self._opened()
        try:
            if handle is not None:
                fcntl.flock(handle, fcntl.LOCK_SH)
            yield
        finally:
            if handle is not None:
                os.close(handle)

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """For removing; False when others would not let go for a while."""
        handle = self._opened()
        try:
            yield handle is not None and _soon(handle)
        finally:
            if handle is not None:
                os.close(handle)

    def _opened(self) -> int | None:
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return None


def _soon(handle: int) -> bool:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(PAUSE_SECONDS)
