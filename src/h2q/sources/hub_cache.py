"""The cache that Hugging Face libraries share, in its own layout: what we fetch they find, and the
reverse.

    models--org--name/blobs/<digest>               the bytes of a file
    models--org--name/snapshots/<commit>/<file>    a link to them
    models--org--name/refs/<revision>              the commit a branch or tag meant when last asked
    .locks/models--org--name/<digest>.lock         held while a blob is being written
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.utils import WeakFileLock

from h2q.sources.hub_listing import COMMIT, RemoteFile, RemoteName

PARTIAL = ".h2q.incomplete"


@dataclass(frozen=True)
class Snapshot:
    """Where the files of one commit are or will be."""

    cache: Path
    name: RemoteName
    commit: str

    @property
    def folder(self) -> Path:
        """The files of the commit under their own names."""
        return self._home / "snapshots" / self.commit

    @property
    def _home(self) -> Path:
        return self.cache / f"models--{self.name.repo.replace('/', '--')}"

    def has(self, file: RemoteFile) -> bool:
        """Whether the file lies here in its full size."""
        path = self.folder / file.name
        return path.is_file() and path.stat().st_size == file.size

    def blob(self, file: RemoteFile) -> Path:
        """The bytes once they are whole and proven."""
        return self._home / "blobs" / file.digest

    def partial(self, file: RemoteFile) -> Path:
        """The bytes while they come in; kept when a transfer breaks off."""
        return self._home / "blobs" / f"{file.digest}{PARTIAL}"

    def lock(self, file: RemoteFile) -> AbstractContextManager[Any]:
        """Keeps other processes from writing the same blob."""
        path = self.cache / ".locks" / self._home.name / f"{file.digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: AbstractContextManager[Any] = WeakFileLock(path)
        return lock

    def link(self, file: RemoteFile) -> None:
        """Shows the blob under the file's name; where links are impossible it is moved there."""
        path, blob = self.folder / file.name, self.blob(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{file.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            fresh.symlink_to(Path("..", "..", "blobs", blob.name))
        except OSError:
            blob.replace(path)
            return
        fresh.replace(path)

    def remember(self) -> None:
        """Notes that the revision means this commit."""
        if self.name.revision == self.commit:
            return
        path = self._home / "refs" / self.name.revision
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        fresh.write_text(self.commit)
        fresh.replace(path)


def remembered(cache: Path, name: RemoteName) -> Snapshot | None:
    """The commit this revision meant when it was last asked for."""
    if COMMIT.fullmatch(name.revision):
        return Snapshot(cache, name, name.revision)
    folder = cache / f"models--{name.repo.replace('/', '--')}"
    try:
        with (folder / "refs" / name.revision).open("rb") as file:
            commit = file.read(64).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Snapshot(cache, name, commit) if COMMIT.fullmatch(commit) else None
