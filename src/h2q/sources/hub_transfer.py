"""One file from the hub to the disk: continued where it broke off, proven by its checksum, then
renamed into place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from h2q.core.errors import NetworkError, ResourceError, SourceError
from h2q.sources.hub_cache import Snapshot
from h2q.sources.hub_listing import Listing, RemoteFile, file_address
from h2q.sources.hub_wire import BrokenOffError, Hub, get, plain_parts

PAUSES = (1.0, 2.0, 4.0, 8.0, 8.0)  # seconds between attempts that bring nothing
MAX_ATTEMPTS = 1_000
READ_BYTES = 4 << 20
RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")
AGAIN = "Run the command again to continue."


def transfer(
    hub: Hub,
    listing: Listing,
    file: RemoteFile,
    snapshot: Snapshot,
    heard: Callable[[int], None],
) -> None:
    """Brings a file into the snapshot; `heard` is told the bytes on disk. Raises NetworkError,
    AccessError, SourceError, ResourceError; what has arrived by then is kept.
    """
    with _disk(), snapshot.lock(file):
        blob, partial = snapshot.blob(file), snapshot.partial(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        if not blob.is_file() or blob.stat().st_size != file.size:
            complete(hub, file_address(hub, listing, file.name), file, partial, heard)
            if file_digest(partial, file) != file.digest:
                partial.unlink()
                raise SourceError(
                    f"The checksum of {file.name} is not the announced one; the file was deleted.",
                    where=str(listing.name),
                    fix="Run the command again to fetch it anew.",
                )
            partial.replace(blob)
        snapshot.link(file)
        heard(file.size)


def complete(
    hub: Hub, url: str, file: RemoteFile, partial: Path, heard: Callable[[int], None]
) -> None:
    """Asks until the partial file has all its bytes, or several attempts in a row brought none. Of
    a hub that has not sent a byte yet, less is hoped.
    """
    idle, moved, began = 0, False, time.monotonic()
    for _ in range(MAX_ATTEMPTS):
        before = _size(partial)
        try:
            _continue(hub, url, file, partial, heard)
            return
        except BrokenOffError:
            grown = _size(partial) > before
            idle, moved = 0 if grown else idle + 1, moved or grown
            if idle > len(PAUSES):
                raise
            pause = PAUSES[max(idle - 1, 0)]
            if not moved and time.monotonic() + pause > began + hub.patience_seconds:
                raise
            time.sleep(pause)
    raise NetworkError(f"The hub broke off {MAX_ATTEMPTS:,} times.", where=file.name, fix=AGAIN)


def _continue(
    hub: Hub, url: str, file: RemoteFile, partial: Path, heard: Callable[[int], None]
) -> None:
    at = _size(partial)
    if at >= file.size:
        if at > file.size:
            partial.unlink()
            at = 0
        if file.size == at > 0:
            return
    with get(hub, url, file.name, at) as response, partial.open("ab") as out:
        if response.status_code == 200:
            if at:
                out.truncate(0)
            at = 0
        elif not _continues(response.headers.get("Content-Range", ""), at, file.size):
            raise NetworkError("The hub answers with another part of the file.", where=file.name)
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) != file.size - at:
            raise _wrong_size(file)
        for part in plain_parts(response, file.name):
            at += len(part)
            if at > file.size:
                raise _wrong_size(file)
            out.write(part)
            heard(at)
        out.flush()
        os.fsync(out.fileno())
    if at != file.size:
        raise BrokenOffError("The hub broke off.", where=file.name, fix=AGAIN)


def _continues(header: str, at: int, size: int) -> bool:
    match = RANGE.fullmatch(header)
    return match is not None and tuple(map(int, match.groups())) == (at, size - 1, size)


def _wrong_size(file: RemoteFile) -> SourceError:
    return SourceError(
        f"The hub announced {file.size:,} bytes and sends another number.", where=file.name
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def file_digest(path: Path, file: RemoteFile) -> str:
    """Sha256 of the bytes, or git's id of a blob, whichever the hub announced."""
    if len(file.digest) == 64:
        found = hashlib.sha256()
    else:
        found = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as data:
        while part := data.read(READ_BYTES):
            found.update(part)
    return found.hexdigest()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "The disk is full; what was fetched is kept.",
                fix="Free some space, or point HF_HUB_CACHE at another disk. " + AGAIN,
            ) from error
        raise ResourceError(
            f"The cache cannot be written: {error.strerror}.",
            fix="Point HF_HUB_CACHE at a folder that may be written.",
        ) from error
