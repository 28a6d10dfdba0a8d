"""Memory of this process as the operating system counts it."""

from __future__ import annotations

import resource
import sys

import psutil


def resident_bytes() -> int:
    """Resident set now, bytes; mapped pages of a crystal count while they are in memory."""
    return int(psutil.Process().memory_info().rss)


def peak_rss_bytes() -> int:
    """Largest resident set so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
