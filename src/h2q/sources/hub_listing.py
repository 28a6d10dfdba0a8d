"""Which files a model on the hub has, as its API tells: sizes, checksums and the commit, each
checked before use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from h2q.core.errors import SourceError
from h2q.core.safetensors_header import parse_json
from h2q.sources.hub_wire import Hub, read_small

LISTING_LIMIT = 32 << 20
MAX_SIZE = 1 << 44
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA1, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_])?")
FORM = "A name is hf:org/name or hf:org/name@revision."


@dataclass(frozen=True)
class RemoteName:
    """A model and a revision of it. Raises SourceError when either is no name of the hub."""

    repo: str
    revision: str = "main"

    def __post_init__(self) -> None:
        parts = self.repo.split("/")
        odd = any(not PART.fullmatch(part) or ".." in part or "--" in part for part in parts)
        if len(parts) != 2 or odd or len(self.repo) > 96 or self.repo.endswith(".git"):
            raise SourceError(f"{self.repo[:100]!r} is not the name of a model.", fix=FORM)
        steps = self.revision.split("/")
        if not REVISION.fullmatch(self.revision) or any(s.startswith(".") or not s for s in steps):
            raise SourceError(f"{self.revision[:100]!r} is not a revision.", fix=FORM)
        if ".." in self.revision or self.revision.endswith(".lock"):
            raise SourceError(f"{self.revision[:100]!r} is not a revision.", fix=FORM)

    def __str__(self) -> str:
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision != "main" else "")


def parse_remote(text: str) -> RemoteName:
    """A name as a person types it after `hf:`. Raises SourceError."""
    repo, at, revision = text.partition("@")
    return RemoteName(repo, revision) if at else RemoteName(repo)


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub. `digest`: sha256 of the bytes (64 digits), or the id git gives a blob (40
    digits).
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """The files of one commit, by name."""

    name: RemoteName
    commit: str
    rows: dict[str, Any]

    def __contains__(self, file: str) -> bool:
        return file in self.rows

    def file(self, name: str, limit: int = MAX_SIZE) -> RemoteFile:
        """A file of at most `limit` bytes. Raises SourceError."""
        row = self.rows[name]
        size, digest, pattern = row.get("size"), row.get("blobId"), SHA1
        if isinstance(large := row.get("lfs"), dict):
            size, digest, pattern = large.get("size"), large.get("sha256"), SHA256
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limit:
            raise SourceError(
                f"The size of {name} is missing or beyond {limit:,} bytes.", where=str(self.name)
            )
        if not isinstance(digest, str) or not pattern.fullmatch(digest):
            raise SourceError(f"The checksum of {name} is missing.", where=str(self.name))
        return RemoteFile(name, size, digest)


def read_listing(hub: Hub, name: RemoteName) -> Listing:
    """Asks the hub. Raises NetworkError, AccessError, SourceError."""
    revision = quote(name.revision, safe="")
    url = f"{hub.endpoint}/api/models/{name.repo}/revision/{revision}?blobs=true"
    table = parse_json(read_small(hub, url, LISTING_LIMIT, str(name)), str(name), SourceError)
    commit, rows = table.get("sha"), table.get("siblings")
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or not isinstance(rows, list):
        raise SourceError("The hub's answer is not the description of a model.", where=str(name))
    files = {
        row["rfilename"]: row
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("rfilename"), str)
    }
    return Listing(name, commit, files)


def file_address(hub: Hub, listing: Listing, file: str) -> str:
    """Where the bytes of a file of this commit are."""
    return f"{hub.endpoint}/{listing.name.repo}/resolve/{listing.commit}/{quote(file, safe='')}"
