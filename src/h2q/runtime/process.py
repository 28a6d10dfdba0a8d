"""Memory and age of this process as the operating system counts them."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/self/stat")
_START_FIELD = 19  # of /proc/self/stat, counted after the name in brackets


def peak_rss_bytes() -> int:
    """Largest resident set so far, bytes; mapped pages in memory count."""
    if _STATUS.exists():
        # getrusage would also count what the parent held at the fork.
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def age_seconds() -> float:
    """Seconds since the process was made, to about a hundredth."""
    if _STAT.exists() and hasattr(time, "CLOCK_BOOTTIME"):
        import os

        fields = _STAT.read_text().rpartition(")")[2].split()
        born = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - born
    import psutil

    return time.time() - psutil.Process().create_time()
