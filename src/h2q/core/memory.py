"""The memory of this process as the operating system counts it."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
from pathlib import Path

_CONTAINER = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BLOCK, _RETURNED_BLOCK = 16 << 20, 128 << 10
_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Largest resident set so far, bytes; mapped pages in memory count."""
    if _STATUS.exists():
        # getrusage would also count what the parent held at the fork.
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def free_bytes() -> int:
    """Memory this process may still take, bytes: what the machine has left, and no more than its
    own limits (RLIMIT_AS, RLIMIT_DATA) and those of its container allow.
    """
    import psutil  # thirty milliseconds that no start should pay

    own = psutil.Process().memory_info()
    free = int(psutil.virtual_memory().available)
    data = getattr(own, "data", own.rss)  # what RLIMIT_DATA counts, where the system tells
    for kind, used in ((resource.RLIMIT_AS, own.vms), (resource.RLIMIT_DATA, data)):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, limit - used)
    for place in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(place.read_text()) - own.rss)
    return max(free, 0)


def keep_freed_memory(keep: bool = True) -> None:
    """Ask the C library to keep freed blocks up to 16 MiB for the next ones, so that the system
    need not map and zero every array anew. Larger ones cost no time, as they come in huge pages,
    and much memory. Not to `keep` asks for the opposite: where memory is short, blocks that are
    kept and do not fit are a waste. Does nothing where the library cannot be asked.
    """
    _ask("mallopt", (_MMAP_THRESHOLD, block := _KEPT_BLOCK if keep else _RETURNED_BLOCK))
    _ask("mallopt", (_TRIM_THRESHOLD, block))


def return_freed_memory() -> None:
    """Give the system what was kept, cycles of objects included, as far as it is whole pages. Where
    the library can.
    """
    gc.collect()
    _ask("malloc_trim", (0,))


def _ask(function: str, values: tuple[int, ...]) -> None:
    """Call a function of the C library, where there is one of that name."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL(None), function)(*values)
