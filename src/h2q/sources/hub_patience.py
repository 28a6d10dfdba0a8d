"""Waiting for a hub no longer than is wished, whatever holds it up: names, addresses, a proxy.

Timeouts of sockets count each address of a host anew, and looking up a name has none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

Entered = TypeVar("Entered")


class LateError(Exception):
    """It did not begin in time."""


class Beginning(Generic[Entered]):
    """A context that is entered in a thread of its own; one that is too late is left again at
    once, by that thread.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Entered]]) -> None:
        self._make = make
        self._lock, self._over = threading.Lock(), threading.Event()
        self._given_up = False
        self._found: list[tuple[AbstractContextManager[Entered], Entered]] = []
        self._error: BaseException | None = None

    def within(self, seconds: float) -> tuple[AbstractContextManager[Entered], Entered]:
        """The context, to be left by the caller, and what it gives. Raises LateError, and what
        entering raises.
        """
        threading.Thread(target=self._enter, daemon=True, name="hub").start()
        self._over.wait(seconds)
        with self._lock:
            self._given_up = not self._over.is_set()
        if self._given_up:
            raise LateError
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _enter(self) -> None:
        try:
            context = self._make()
            entered = context.__enter__()
        except BaseException as error:
            self._error = error
            self._over.set()
            return
        with self._lock:
            if not self._given_up:
                self._found.append((context, entered))
                self._over.set()
                return
        context.__exit__(None, None, None)
