"""Files that are whole or not there: written beside their place, made durable, renamed; and what a
disk refuses, as a sentence.
"""

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
def writing(what: str, where: str, kept: str = "nothing was left behind") -> Iterator[None]:
    """OSError becomes ResourceError: `what` cannot be written, at `where`; `kept` says what a full
    disk left behind. An OSError without a number is one of NumPy's about a write that was cut
    short.
    """
    try:
        yield
    except OSError as error:
        full = error.errno is None or error.errno in FULL
        raise ResourceError(
            "The disk is full." if full else f"The {what} cannot be written: {error.strerror}.",
            where=where,
            fix=f"Free some space and start again; {kept}." if full else "",
        ) from error


def file_hash(path: Path) -> str:
    """sha256 of a file, hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """With those above it, where it is not there. Raises OSError, which says so where a file is in
    the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def listing(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as items:
            return sorted(Path(item.path) for item in items)
    except OSError:
        return []


def sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(PermissionError):  # some systems do not sync folders
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacement(target: Path, suffix: str) -> Iterator[Path]:
    """A path beside `target` to write a file to. It takes the target's place when the block ends,
    and is removed when it fails; what processes that are gone left behind is removed too.
    """
    target = target.absolute()
    make_folder(target.parent)
    _sweep(target, suffix)
    temporary = target.with_name(f".{target.name}.{os.getpid()}{suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(target: Path, suffix: str) -> None:
    import psutil  # thirty milliseconds that no start should pay

    for left in target.parent.iterdir():
        name = left.name
        if not (name.startswith(f".{target.name}.") and name.endswith(suffix)):
            continue
        owner = name[len(target.name) + 2 : -len(suffix)]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            left.unlink(missing_ok=True)
