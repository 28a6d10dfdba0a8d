"""Every environment variable of ours, read in one place.

| variable | meaning | default |
|---|---|---|
| H2Q_API_KEYS | keys of the server, by comma; every request needs one of them | none needed |
| H2Q_HOME | the folder of installed models | ~/.h2q |
| H2Q_KERNEL | a kernel path: amx, avx512, avx2, neon, portable, numpy | the fastest that works |
| H2Q_THREADS | worker threads of the kernels | the cores for performance |
| H2Q_TRACEBACK | not empty: a bug in h2q tells its whole way through the code | one line |
"""

from __future__ import annotations

import os
from pathlib import Path

from h2q.core.errors import UsageError

MAX_THREADS = 256


def usable_cores() -> int:
    """Cores the scheduler lets this process use (not the cores of the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int | None:
    """H2Q_THREADS; None leaves the number to the kernels, which know one kind of core from the
    other. Raises UsageError when it is not a sensible number.
    """
    text = os.environ.get("H2Q_THREADS", "")
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise UsageError(f"H2Q_THREADS must be a number from 1 to {MAX_THREADS}, not {text!r}.")
    return int(text)


def api_keys() -> tuple[str, ...]:
    """H2Q_API_KEYS. Raises UsageError for one that no header can hold."""
    found = tuple(key.strip() for key in os.environ.get("H2Q_API_KEYS", "").split(","))
    keys = tuple(key for key in found if key)
    if any(not key.isascii() or not key.isprintable() or " " in key for key in keys):
        raise UsageError("A key in H2Q_API_KEYS has characters that no request can send.")
    return keys


def kernel() -> str:
    """H2Q_KERNEL, or an empty string for automatic choice."""
    return os.environ.get("H2Q_KERNEL", "")


def home() -> Path:
    """H2Q_HOME, the folder of installed models."""
    named = os.environ.get("H2Q_HOME", "")
    return Path(named).expanduser() if named else Path.home() / ".h2q"


def with_home(folder: Path) -> dict[str, str]:
    """The environment of a child process whose installed models are in a folder."""
    return {**os.environ, "H2Q_HOME": str(folder)}


def traceback() -> bool:
    """H2Q_TRACEBACK: whether a bug is to tell the whole way through the code."""
    return bool(os.environ.get("H2Q_TRACEBACK", ""))
