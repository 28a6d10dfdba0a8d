"""Files that clients upload to create models from, kept beside those that are fetched."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from h2q.core.disk import writing
from h2q.core.errors import UsageError
from h2q.crystal.store_blobs import plain_digest
from h2q.sources.source_files import blob_path, publish

WRITTEN = 4 << 20  # bytes at once: hashing and writing them leaves the loop free
INCOMING = "-incoming"


class Uploads:
    """Blobs by digest in `folder` (see sources.source_files)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, digest: str) -> bool:
        """Whether `sha256:<64 hex>` is here. Raises UsageError for another form."""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where it is or would be. Raises UsageError."""
        return blob_path(self.folder, plain_digest(digest.lower()))

    async def add(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Take one in; False where it was here. Raises UsageError when its hash is another,
        ResourceError when the disk is full; nothing is kept then.
        """
        blob = self.path(digest)
        if blob.is_file():
            return False
        fresh = blob.with_name(f"{blob.name}-{uuid.uuid4().hex}{INCOMING}")
        found = hashlib.sha256()

        def write(data: bytes) -> None:
            with writing("upload", blob.name):
                fresh.parent.mkdir(parents=True, exist_ok=True)
                with fresh.open("ab") as file:
                    file.write(data)
            found.update(data)

        try:
            held, size = list[bytes](), 0
            async for chunk in chunks:
                held.append(chunk)
                size += len(chunk)
                if size >= WRITTEN:
                    await asyncio.to_thread(write, b"".join(held))
                    held, size = [], 0
            await asyncio.to_thread(write, b"".join(held))
            if found.hexdigest() != plain_digest(digest.lower()):
                raise UsageError(
                    f"digest mismatch, expected {digest}, got sha256:{found.hexdigest()}"
                )
            await asyncio.to_thread(publish, fresh, blob)
        finally:
            fresh.unlink(missing_ok=True)
        return True
