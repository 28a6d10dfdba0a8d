"""Writing so that it lasts: sync, hash, and what the disk refuses as a sentence of ours."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from h2q.core.errors import ResourceError

HASHED_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(what: str, where: str, kept: str) -> Iterator[None]:
    """OSError becomes ResourceError: `what` cannot be written, at `where`; `kept` says what a full
    disk left behind.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        raise ResourceError(
            "The disk is full." if full else f"The {what} cannot be written: {error.strerror}.",
            where=where,
            fix=f"Free some space and start again; {kept}." if full else "",
        ) from error


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(PermissionError):  # some systems do not sync folders
            os.fsync(handle)
    finally:
        os.close(handle)


def file_hash(path: Path) -> str:
    """sha256 of a file, hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()
