"""What a long growth has finished, kept on disk: after a power cut or kill -9 it goes on where it
was.

Beside the target `NAME` lies the folder `.NAME.journal/`:

| file | content |
|---|---|
| `lock` | the process id of the owner; held by `flock` as long as that process lives |
| `key` | the key the entries were written under; another key begins anew |
| `HASH.safetensors` | one finished piece of work (see h2q.crystal.entry); HASH is of its name |
| `HASH.writing` | an entry that is being written; swept when the journal is opened |

An entry is written to a temporary file, synced and renamed, so it is there as a whole or not at
all. It is believed only under the journal's key and after its checksum was proven in this process;
anything else is dropped and made again. The key is over everything that decides the result, so a
changed source, option or line of code never meets old work.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import h2q
from h2q.core.disk import sync, writing
from h2q.core.errors import CrystalError, UsageError
from h2q.crystal.entry import Array, Entry, Fact, read_entry, write_entry

VERSION = "1"
LOCK, NOTE, ENTRY, WRITING = "lock", "key", ".safetensors", ".writing"
KEPT = "what was finished is kept"


def journal_key(parts: Iterable[str]) -> str:
    """sha256 over the parts, the format of journals and the code of this program; hex. Parts are
    what decides the result: the source's fingerprint, options, bits, seeds.
    """
    digest = hashlib.sha256()
    for part in (VERSION, code_fingerprint(), *parts):
        data = part.encode("utf-8")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


@functools.cache
def code_fingerprint() -> str:
    """sha256 over every module of this package and its extension; hex. A changed line is another
    program, whether or not its version number changed.
    """
    root = Path(h2q.__file__).parent
    places = {Path(place) for place in h2q.__path__} | {root}
    found = {
        str(file.relative_to(place)): file
        for place in places
        for pattern in ("*.py", "*.so", "*.pyd")
        for file in place.rglob(pattern)
    }
    digest = hashlib.sha256()
    for name in sorted(found):
        data = found[name].read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


class Journal:
    """An opened journal; a context manager that closes and keeps.

    Raises UsageError when another process has it, ResourceError when the disk is full or refuses.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._proven: dict[str, tuple[int, int, int]] = {}
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = _locked(folder)
            try:
                self._sweep()
            except BaseException:
                self._release()
                raise

    @classmethod
    def beside(cls, target: Path, key: str) -> Journal:
        """The journal of a growth towards `target`."""
        target = Path(os.path.realpath(target))  # as the writer of the crystal does
        return cls(target.parent / f".{target.name}.journal", key)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(remove=False)

    def get(self, name: str) -> dict[str, Array] | None:
        """The arrays of a finished entry, mapped and read-only, or None. A damaged entry, or one
        of another key, is dropped.
        """
        found = self.entry(name)
        return None if found is None else found.arrays

    def entry(self, name: str) -> Entry | None:
        """Like `get`, with the facts."""
        path = self._path(name)
        try:
            state = _state(path)
            found = read_entry(path, self.key, name, proven=self._proven.get(name) == state)
            if _state(path) != state:
                raise CrystalError("The entry changed while it was read.", where=path.name)
        except FileNotFoundError:
            return None
        except (OSError, CrystalError):
            self._drop(path)
            return None
        self._proven[name] = state
        return found

    def put(self, name: str, arrays: Mapping[str, Array], meta: Mapping[str, Fact]) -> None:
        """Keep an entry; when this returns it is on the disk. Replaces one of the same name.
        Raises ResourceError, UsageError for an array of a type the format does not have.
        """
        path = self._path(name)
        part = path.with_suffix(WRITING)
        with self._writing():
            try:
                write_entry(part, self.key, name, Entry(dict(arrays), dict(meta)))
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            self._proven.pop(name, None)
            sync(self.folder)

    def close(self, remove: bool = False) -> None:
        """Give the journal back; `remove` when the growth is whole. Arrays that were handed out
        stay valid. Closing twice does nothing.
        """
        if self._lock is None:
            return
        if remove:
            for path in (*self._files(ENTRY, WRITING), self.folder / NOTE):
                self._drop(path)
            with contextlib.suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()  # stays when somebody put something else there
        self._release()

    def _path(self, name: str) -> Path:
        if self._lock is None:
            raise UsageError("The journal is closed.", where=self.folder.name)
        return self.folder / (hashlib.sha256(name.encode("utf-8")).hexdigest()[:40] + ENTRY)

    def _sweep(self) -> None:
        """Away with half-written entries, and with those of another key."""
        for path in self._files(WRITING):
            self._drop(path)
        note = self.folder / NOTE
        try:
            same = note.read_text(encoding="ascii") == self.key
        except (OSError, ValueError):
            same = False
        if not same:
            for path in self._files(ENTRY):
                self._drop(path)
            note.write_text(self.key, encoding="ascii")

    def _files(self, *endings: str) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from [p for p in self.folder.iterdir() if p.name.endswith(endings)]

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # what cannot be removed is still never believed
            path.unlink()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing("journal", self.folder.name, KEPT)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _locked(folder: Path) -> int:
    """A handle on the lock file, held until it is closed or the process ends, however it ends."""
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                return handle
        except FileNotFoundError:
            pass  # its last owner just removed it: make a new one
        except OSError as error:
            owner = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UsageError(
                f"Process {owner or 'unknown'} is growing the same crystal.",
                where=folder.name,
                fix="Wait for it or stop it, or choose another target.",
            ) from error
        os.close(handle)
        folder.mkdir(parents=True, exist_ok=True)
