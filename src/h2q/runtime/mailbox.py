"""Work for one thread, handed over by any other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from h2q.core.errors import ResourceError
from h2q.runtime.reading import Work
from h2q.runtime.worker import ENDED


class Mailbox:
    """Once `closing`, the thread takes no more; once it has ended, whoever posts does the work and
    finds the model closed.
    """

    def __init__(self) -> None:
        self._mail: deque[Work] = deque()
        self._wake = threading.Condition()
        self.closing = self.ended = False

    def post(self, work: Work) -> None:
        """To be done before the next step."""
        with self._wake:
            if not self.ended:
                self._mail.append(work)
                self._wake.notify()
                return
        work()

    def called(self, work: Callable[[], bytes]) -> bytes:
        """Post work and wait for what it gives or raises."""
        done: SimpleQueue[bytes | BaseException] = SimpleQueue()

        def run() -> None:
            try:
                done.put(ResourceError(ENDED) if self.closing else work())
            except Exception as error:
                done.put(error)

        self.post(run)
        found = done.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """Wake the thread for the last time."""
        with self._wake:
            self.closing = True
            self._wake.notify()

    def do(self, busy: Callable[[], bool], patience: Callable[[], float | None]) -> bool:
        """Do what was posted; wait for it unless `busy`, for at most `patience` seconds. False when
        closing: then nothing was done.
        """
        with self._wake:
            while not (self._mail or self.closing or busy()):
                if not self._wake.wait(patience()):
                    break
            if self.closing:
                return False
            mail, self._mail = self._mail, deque()
        for work in mail:
            work()
        return True

    def end(self) -> bool:
        """Do what is left; whether this was the first end."""
        with self._wake:
            first, self.ended = not self.ended, True
            mail, self._mail = self._mail, deque()
        for work in mail:
            work()
        return first
