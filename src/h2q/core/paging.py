"""Pages of mapped memory: brought in, given back, counted; and threads that step behind others.

Addresses and lengths are plain numbers; who has arrays knows theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
from functools import cache
from typing import Any

PAGE = mmap.PAGESIZE
POPULATE_READ = 22  # Linux 5.14: reads and maps whole ranges in one call
DONTDUMP = 16
RANDOM = 1  # reads nothing beside what is touched
WILLNEED = 3
DONTNEED = 4  # gives the pages back at once; those of a file can be read again
NICER = 10  # a tenth of what others get; at 19 a busy machine would starve whoever waits for it
LAST_IN_LINE = (2 << 13) + 7  # of ioprio_set: the least among those who are served at all
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}


@cache
def _library() -> Any:
    """The C library; its calls let other threads run meanwhile."""
    library = ctypes.CDLL(None, use_errno=True)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def populate(address: int, count: int) -> None:
    """Bring `count` bytes of a mapped file into memory and into this process; returns when they are
    there. A range that cannot be read is left to whoever touches it.
    """
    begin = address - address % PAGE
    if sys.platform == "linux":
        if not _library().madvise(begin, address + count - begin, POPULATE_READ):
            return
        if ctypes.get_errno() != 22:  # EINVAL: an older kernel
            return
    for at in range(begin, address + count, PAGE):
        ctypes.string_at(max(at, address), 1)


def ask(address: int, count: int) -> None:
    """Have the system read `count` bytes of a mapped file that it does not have yet, without
    waiting. Takes no memory of this process.
    """
    begin = address - address % PAGE
    _library().madvise(begin, address + count - begin, WILLNEED)


def at_random(address: int, count: int, odd: bool) -> None:
    """Say that what lies beside a page that is touched will not be wanted. Neighbouring ranges take
    turns to be `odd`: then Linux keeps them apart, and does not map pages of one with those of
    another (since 6.18 it would map all of what it once read together, up to megabytes).
    """
    begin = address - address % PAGE
    _library().madvise(begin, address + count - begin, RANDOM)
    if odd and sys.platform == "linux":
        _library().madvise(begin, address + count - begin, DONTDUMP)


def release(address: int, count: int) -> None:
    """Give back the whole pages among `count` bytes: what is mapped from a file is read again when
    it is touched, what is not becomes zero.
    """
    begin = -(-address // PAGE) * PAGE
    end = (address + count) // PAGE * PAGE
    if end > begin:
        _library().madvise(begin, end - begin, DONTNEED)


def resident(address: int, count: int) -> int:
    """Bytes of a mapped range whose pages are in memory, for whomever: whole pages. Linux and macOS
    tell; elsewhere OSError.
    """
    begin = address - address % PAGE
    pages = -(-(address + count - begin) // PAGE)
    found = (ctypes.c_ubyte * pages)()
    if _library().mincore(ctypes.c_void_p(begin), ctypes.c_size_t(pages * PAGE), found):
        raise OSError(ctypes.get_errno(), "mincore")
    return PAGE * bytes(page & 1 for page in found).count(1)


def forget_file(handle: int, begin: int = 0, count: int = 0) -> None:
    """Let the system drop a file's bytes (from `begin`, 0 for all) that nobody has mapped from its
    cache. It may decline.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(handle, begin, count, os.POSIX_FADV_DONTNEED)


def step_back() -> None:
    """Give the calling thread a low priority for processor and disk, where the system knows
    priorities of threads.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, now + NICER)
    if (number := IOPRIO_SET.get(os.uname().machine)) is not None:
        _library().syscall(number, 1, 0, LAST_IN_LINE)


def trim() -> None:
    """Ask the C library to give freed memory back, where it can be asked."""
    with contextlib.suppress(OSError, AttributeError):
        _library().malloc_trim(0)
