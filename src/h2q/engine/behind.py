"""Work that is done behind the run, one thing after the other, in a thread that gives way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from h2q.core.paging import step_back


class Behind:
    """Does `work` with every number it is given. Of more than `most` that wait, the oldest are
    forgotten. The thread begins with the first.
    """

    def __init__(self, work: Callable[[int], None], most: int) -> None:
        self._work = work
        self._waiting: deque[int] = deque(maxlen=most)
        self._wake = threading.Condition()
        self._closing = self._busy = False
        self._thread: threading.Thread | None = None

    def give(self, number: int) -> None:
        """One more to do, unless it waits already."""
        with self._wake:
            if self._closing or number in self._waiting:
                return
            self._waiting.append(number)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="behind", daemon=True)
                self._thread.start()
            self._wake.notify()

    def clear(self) -> None:
        """Forget what waits; returns when nothing is under way."""
        with self._wake:
            self._waiting.clear()
            self._wake.wait_for(lambda: not self._busy)

    def settle(self) -> None:
        """Returns when nothing waits or is under way."""
        with self._wake:
            self._wake.wait_for(lambda: not self._busy and not self._waiting)

    def close(self) -> None:
        """Nothing is done any more when this returns."""
        with self._wake:
            self._closing = True
            self._waiting.clear()
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        step_back()
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                number, self._busy = self._waiting.popleft(), True
            self._work(number)
