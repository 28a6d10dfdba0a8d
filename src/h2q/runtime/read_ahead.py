"""Reading a mapped shard into memory ahead of whoever computes with it, in the order of its bytes.

A page that somebody touches first is fetched by the system anyway; these threads only see to it
that few are.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from h2q.core.paging import populate

THREADS = 2
CHUNK = 2 << 20  # one request of a size that disks answer at full speed


class ReadAhead:
    """Brings `data` (uint8, mapped) into memory from its begin, by a few threads."""

    def __init__(self, data: npt.NDArray[np.uint8], threads: int = THREADS) -> None:
        self._data, self._address = data, data.ctypes.data
        self._begins = list(range(0, data.nbytes, CHUNK))
        self._taken = self._whole = 0
        self._done = [False] * len(self._begins)
        self._news = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name="read ahead", daemon=True)
            for _ in range(min(threads, len(self._begins)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def bytes(self) -> int:
        """Read without a gap."""
        return min(self._whole * CHUNK, self._data.nbytes)

    def wait(self, end: int) -> None:
        """Until the first `end` bytes are there, or reading was stopped."""
        if self.bytes < end:
            with self._news:
                self._news.wait_for(lambda: self._closed or self.bytes >= end)

    def close(self) -> None:
        """Read no more; returns when nobody reads."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                if self._closed or self._taken == len(self._begins):
                    return
                index = self._taken
                self._taken += 1
            begin = self._begins[index]
            populate(self._address + begin, min(CHUNK, self._data.nbytes - begin))
            with self._news:
                self._done[index] = True
                while self._whole < len(self._done) and self._done[self._whole]:
                    self._whole += 1
                self._news.notify_all()
