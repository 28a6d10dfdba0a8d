"""How much of a piece of work is spent inside the extension, operation by operation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from h2q.kernels import native as operations
from h2q.kernels import native_layer, native_pages

MODULES: tuple[Any, ...] = (operations, native_pages, native_layer)  # who calls the extension


class NativeClock:
    """Seconds and calls of each operation while `running`. What bindings do, checks of arguments
    among them, counts as native; the clock's own tenths of a microsecond do not.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Puts itself between the operations and the extension until the block ends."""
        before = [module.native for module in MODULES]
        for module in MODULES:
            module.native = _Timed(module.native, self)
        try:
            yield
        finally:
            for module, native in zip(MODULES, before, strict=True):
                module.native = native


class _Timed:
    """The extension with a clock around each of its functions; classes are its own."""

    def __init__(self, native: Any, clock: NativeClock) -> None:
        for name in dir(native):
            found = getattr(native, name)
            plain = not callable(found) or isinstance(found, type)
            setattr(self, name, found if plain else _timed(found, name, clock))


def _timed(function: Callable[..., Any], name: str, clock: NativeClock) -> Callable[..., Any]:
    seconds, calls, now = clock.seconds, clock.calls, time.perf_counter

    def timed(*arguments: Any) -> Any:
        began = now()
        try:
            return function(*arguments)
        finally:
            seconds[name] += now() - began
            calls[name] += 1

    timed.__name__ = name
    return timed
