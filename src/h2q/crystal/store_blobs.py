"""Blobs of a store: files named by the sha256 of what they hold, published only after that was
checked.

    blobs/sha256-<64 hex digits>    read-only; shared by every crystal that has this very file
    incoming/                       files on their way in; nothing reads them
    broken/                         what was found damaged, out of the way
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from h2q.core.disk import HASHED_BYTES, file_hash, sync, writing
from h2q.core.errors import CrystalError, UsageError

LOG = logging.getLogger("h2q.store")
DIGEST = re.compile(r"(?:sha256[:-])?([0-9a-f]{64})")
READ_ONLY = 0o444
KEPT_REPORTS = 1 << 20  # bytes of broken/report.jsonl before it begins anew


def plain_digest(text: str) -> str:
    """64 hex digits of `sha256:<64 hex>`. Raises UsageError for any other form."""
    match = DIGEST.fullmatch(text)
    if match is None:
        raise UsageError("invalid digest format", fix="A digest is sha256: and 64 hex digits.")
    return match[1]


class Blobs:
    """The files of a store. Raises ResourceError when the disk is full or refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs, self._incoming = root / "blobs", root / "incoming"

    def path(self, digest: str) -> Path:
        """Where the blob of this digest (64 hex digits) is or will be."""
        return self._blobs / f"sha256-{plain_digest(digest)}"

    def sound_size(self, digest: str, size: int) -> bool:
        """Whether the blob is there in its full size; nothing is hashed."""
        with contextlib.suppress(OSError):
            return self.path(digest).stat().st_size == size
        return False

    def add(self, file: Path, expected: str | None, move: bool) -> tuple[str, int]:
        """Takes a file in; its sha256 in hex and its bytes. move: the file may be linked instead
        of copied, because nobody else will write to it. Raises CrystalError when the checksum is
        not the expected one.
        """
        with writing("store", file.name, "what was there before is whole"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._blobs.mkdir(parents=True, exist_ok=True)
            fresh = self._incoming / uuid.uuid4().hex
            try:
                digest, size = _take(file, fresh, move)
                if expected is not None and digest != expected:
                    raise CrystalError(
                        "The checksum is wrong; nothing was installed.",
                        where=file.name,
                        fix="Copy the crystal again, or grow it again from its source.",
                    )
                self._publish(fresh, digest, size)
            finally:
                fresh.unlink(missing_ok=True)
        return digest, size

    def _publish(self, fresh: Path, digest: str, size: int) -> None:
        """A blob of the same name stays, unless it is found damaged."""
        blob = self.path(digest)
        if blob.exists():
            if blob.stat().st_size == size and file_hash(blob) == digest:
                return
            self.set_aside(blob, "The checksum of a stored file is wrong.")
        fresh.chmod(READ_ONLY)
        sync(fresh)
        fresh.replace(blob)
        sync(blob.parent)

    def set_aside(self, path: Path, why: str) -> None:
        """Moves what is damaged out of the way and reports it."""
        place = self.root / "broken"
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            named = str(path.relative_to(self.root)).replace(os.sep, "+")
            path.replace(place / f"{named}.{uuid.uuid4().hex[:8]}")
            report = place / "report.jsonl"
            if report.exists() and report.stat().st_size > KEPT_REPORTS:
                report.unlink()
            with report.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), "file": named, "why": why}) + "\n")
        LOG.warning("%s It was set aside: %s", why, path.name)

    def collect(self, wanted: set[str]) -> int:
        """Removes every blob whose digest is not wanted, and all that was on its way in; bytes
        freed. Only under the store's exclusive lock.
        """
        freed = 0
        for path in _listed(self._blobs):
            match = DIGEST.fullmatch(path.name)
            if match is None or match[1] not in wanted:
                with contextlib.suppress(OSError):
                    freed += path.stat().st_size
                    path.unlink()
        for path in _listed(self._incoming):
            with contextlib.suppress(OSError):
                path.unlink()
        return freed

    def digests(self) -> list[str]:
        """Of all blobs, sorted."""
        matches = (DIGEST.fullmatch(path.name) for path in _listed(self._blobs))
        return sorted(match[1] for match in matches if match is not None)

    def damaged(self, digest: str) -> bool:
        """Whether the content of a blob is not what its name says; reads all of it."""
        try:
            return file_hash(self.path(digest)) != digest
        except OSError:
            return True


def _take(file: Path, fresh: Path, move: bool) -> tuple[str, int]:
    """The file under a new name, hashed on the way."""
    if move:
        with contextlib.suppress(OSError):
            os.link(file, fresh, follow_symlinks=False)
            return file_hash(fresh), fresh.stat().st_size
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as source, fresh.open("xb") as out:
        while block := source.read(HASHED_BYTES):
            digest.update(block)
            size += len(block)
            out.write(block)
    return digest.hexdigest(), size


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def link(blob: Path, place: Path) -> None:
    """The blob under another name: the same file where the file system can, else a copy."""
    try:
        os.link(blob, place)
    except OSError:
        shutil.copyfile(blob, place)
        sync(place)
