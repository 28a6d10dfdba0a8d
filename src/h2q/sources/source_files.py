"""Files that crystals are grown from, while they are needed: fetched from a registry or uploaded,
in the layout of an Ollama store, so that one reader serves both.

    blobs/sha256-<64 hex>            whole, its checksum proven
    blobs/sha256-<64 hex>-partial    on its way; kept when it breaks off
    manifests/<host>/<namespace>/<model>/<tag>

Whoever reads or writes a file holds a lock of the kernel on it; what nobody holds and nobody
touched for a week is swept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from h2q.core.disk import sync, writing
from h2q.core.errors import Cancelled

PARTIAL = "-partial"
WEEK = 7 * 86_400.0
PAUSE = 0.1
KEPT = "what was fetched is kept"


def blob_path(folder: Path, digest: str) -> Path:
    """Of the blob with this sha256, 64 hex digits."""
    return folder / "blobs" / f"sha256-{digest}"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keeps a file from being swept while the block runs."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        with contextlib.suppress(OSError):
            os.utime(path)
        yield
    finally:
        os.close(handle)


@contextmanager
def alone(path: Path, stopped: Iterator[bool] | None = None) -> Iterator[None]:
    """Creates a file if there is none and holds it alone; waits for another who does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                break
        except OSError:
            if stopped is not None and next(stopped, False):
                os.close(handle)
                raise Cancelled("Stopped.") from None
            time.sleep(PAUSE)
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def publish(partial: Path, blob: Path) -> None:
    """A whole and proven file takes its name."""
    with writing("file", blob.name, KEPT):
        sync(partial)
        partial.replace(blob)
        sync(blob.parent)


def drop(folder: Path, digest: str) -> None:
    """Removes a blob that served, unless somebody else reads it."""
    _remove(blob_path(folder, digest))


def sweep(folder: Path, age: float = WEEK) -> int:
    """Removes files that nobody holds and nobody touched for `age` seconds; bytes freed."""
    freed, limit = 0, time.time() - age
    try:
        with os.scandir(folder / "blobs") as items:
            paths = [Path(item.path) for item in items if item.is_file(follow_symlinks=False)]
    except OSError:
        return 0
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            if found.st_mtime < limit and _remove(path):
                freed += found.st_size
    return freed


def _remove(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
