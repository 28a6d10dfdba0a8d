"""How short memory is: 0 not at all, 1 nothing more should come in, 2 a plane should go, 3 all that
can go should.

What counts is the promise (the resident set of this process) and what the machine has left.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from h2q.core.paging import trim
from h2q.runtime.process import rss_bytes

MARGINS = ((3, 1 << 20), (2, 4 << 20), (1, 8 << 20))  # level from so many bytes below the promise
SHARES = ((3, 0.01), (2, 0.02), (1, 0.04))  # level below such a part of the machine's memory
RECOVERY = 5.0  # seconds without pressure before anything comes back
INTERVAL = 0.02  # seconds between two looks
WATCH = 0.25  # seconds between two looks while nothing is computed
_MEMORY = Path("/proc/meminfo")


class Pressure:
    """Of a process that promised `budget` bytes, 0: nothing. `level` is the last one seen."""

    def __init__(self, budget: int) -> None:
        self.budget, self.level = budget, 0
        self._looked = self._last = -RECOVERY

    def look(self) -> int:
        """The level now, seen anew when the last look is old."""
        now = time.monotonic()
        if now - self._looked >= INTERVAL:
            self._looked = now
            level = max(self._own(), machine_level())
            if level >= 2:
                trim()
                level = max(self._own(), machine_level())
            self.level = level
            if level:
                self._last = now
        return self.level

    def allows(self, count: int) -> bool:
        """Whether so many bytes may come in: only some time after the last pressure."""
        if self.look() or time.monotonic() - self._last < RECOVERY:
            return False
        return not self.budget or rss_bytes() + count <= self.budget - 2 * MARGINS[-1][1]

    def _own(self) -> int:
        if not self.budget:
            return 0
        held = rss_bytes()
        return next((level for level, room in MARGINS if held > self.budget - room), 0)


def machine_level() -> int:
    """Of the machine; 0 where it does not tell."""
    try:
        text = _MEMORY.read_text(encoding="ascii")
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines())
    total, left = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return next((level for level, share in SHARES if left < share * total), 0)


def watch(called: weakref.WeakMethod[Callable[[], None]], ended: threading.Event) -> None:
    """Call a method now and then, as long as its object lives, from a thread of its own: somebody
    must look while nothing is computed.
    """

    def run() -> None:
        while not ended.wait(WATCH):
            method = called()
            if method is None:
                return
            method()
            del method

    threading.Thread(target=run, name="pressure", daemon=True).start()
