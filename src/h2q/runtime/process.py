"""Memory and age of this process as the operating system counts them."""

from __future__ import annotations

import time
from pathlib import Path

from h2q.core.memory import peak_rss_bytes

__all__ = ["age_seconds", "peak_rss_bytes", "rss_bytes"]

_STAT = Path("/proc/self/stat")
_START_FIELD = 19  # of /proc/self/stat, counted after the name in brackets
_PAGES = Path("/proc/self/statm")


def rss_bytes() -> int:
    """The resident set now, mapped pages in memory counted."""
    if _PAGES.exists():
        import os

        return int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.Process().memory_info().rss)


def age_seconds() -> float:
    """Seconds since the process was made, to about a hundredth."""
    if _STAT.exists() and hasattr(time, "CLOCK_BOOTTIME"):
        import os

        fields = _STAT.read_text().rpartition(")")[2].split()
        born = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - born
    import psutil

    return time.time() - psutil.Process().create_time()


def rss_parts() -> tuple[int, int]:
    """The resident set now: what belongs to this process alone, and what is mapped from files,
    bytes. Where the system does not tell them apart, all is the first.
    """
    if not _PAGES.exists():
        return rss_bytes(), 0
    import os

    resident, shared = map(int, _PAGES.read_text().split()[1:3])
    size = os.sysconf("SC_PAGE_SIZE")
    return (resident - shared) * size, shared * size
