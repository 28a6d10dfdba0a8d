"""Warm state: conversations' keys and values on disk, so that a model that was let go reads none of
them again.

A file holds the full pages of one conversation (engine.saved: whole or not there, proven by its
checksum). Its name says of what it is: crystal, everything else that keys and values depend on, and
a digest of its tokens. A request restores the file that shares its longest beginning; the pages are
then found as if they had been computed here. Files used longest ago make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from h2q.codec.pages import PAGE
from h2q.core.errors import CrystalError, H2QError, ResourceError
from h2q.crystal.entry import Entry
from h2q.engine.page_pool import Digest, PagePool, digest_page
from h2q.engine.saved import SUFFIX, copy_stream, load_stream, saved_tokens, write_stream
from h2q.engine.stream import Stream

FORMAT = 1  # another one when keys and values of the same tokens change
LEAST_PAGES = 2  # what is shorter is read again as fast
MOST_PENDING = 64
SETTLE_SECONDS = 20.0  # a conversation that goes on is not written with every turn


@dataclass
class _Saved:
    """Files under one key: by the digest of their last page, and of which file each page is."""

    files: dict[Digest, Path] = field(default_factory=dict)
    pages: dict[Digest, Digest] = field(default_factory=dict)

    def add(self, path: Path, chain: list[Digest]) -> None:
        self.files[chain[-1]] = path
        self.pages.update(dict.fromkeys(chain, chain[-1]))

    def remove(self, last: Digest) -> None:
        path = self.files.pop(last, None)
        if path is not None:
            path.unlink(missing_ok=True)
        self.pages = {page: end for page, end in self.pages.items() if end != last}


class Warm:
    """Conversations of one crystal in a folder of at most `quota` bytes, which several processes
    may share. settle: seconds without work after which is saved. What goes wrong with files costs
    time, never an answer. Belongs to the model's thread; files are written in another.
    """

    def __init__(
        self,
        folder: Path,
        quota: int,
        fingerprint: str,
        pool: PagePool,
        settle: float | None = None,
    ) -> None:
        self._folder, self._quota, self._pool = folder, quota, pool
        self._settle = SETTLE_SECONDS if settle is None else settle
        self._fingerprint = fingerprint
        self._pending: OrderedDict[Digest, list[int]] = OrderedDict()
        self._since = 0.0
        self._saved: dict[str, _Saved] = {}
        self._lock = threading.Lock()  # of reading the folder; files change in the writer alone
        self._writer = ThreadPoolExecutor(1, "warm")
        self._writer.submit(self._evict, 0)
        self.restored = 0

    def ended(self, tokens: list[int], planes: int) -> None:
        """A conversation may be over; `tokens` of it have been read or said."""
        chain = chain_of(tokens, self._key(planes))
        if len(chain) >= LEAST_PAGES:
            self._pending[chain[-1]] = tokens
            self._pending.move_to_end(chain[-1])
            while len(self._pending) > MOST_PENDING:
                self._pending.popitem(last=False)
            self._since = time.monotonic()

    def wait_seconds(self) -> float | None:
        """Until something is to be saved, if nothing happens; None: there is nothing."""
        if not self._pending:
            return None
        return max(0.0, self._since + self._settle - time.monotonic())

    def save(self, planes: int) -> None:
        """Copy what ended and is still in the cache; it is written behind this call."""
        key = self._key(planes)
        pending, self._pending = self._pending, OrderedDict()
        longest = sorted(pending.values(), key=len, reverse=True)
        done: set[Digest] = set()
        for tokens in longest:
            chain = chain_of(tokens, key)
            if chain[-1] in done or chain[-1] in self._index(key).pages:
                continue
            stream = Stream(self._pool, tokens)
            stored = stream.find_prefix()
            if stored >= LEAST_PAGES * PAGE:
                stream.tokens = tokens[:stored]
                chain = chain[: stored // PAGE]
                done.update(chain)
                self._writer.submit(self._write, copy_stream(stream), key, chain)
            stream.close()

    def restore(self, tokens: tuple[int, ...], planes: int) -> None:
        """Bring what is saved of a beginning into the cache, unless it is there."""
        key = self._key(planes)
        saved = self._index(key)
        if not saved.files:
            return
        chain = chain_of(tokens, key)
        known = next((at for at in reversed(range(len(chain))) if chain[at] in saved.pages), -1)
        here = Stream(self._pool, tokens)
        held = here.find_prefix() // PAGE
        here.close()
        if known < held:
            return
        last = saved.pages[chain[known]]
        path = saved.files.get(last)
        try:
            if path is not None:
                load_stream(self._pool, path, key).close()
                os.utime(path)
                self.restored += 1
        except (CrystalError, OSError):  # damaged, or evicted
            self._writer.submit(saved.remove, last)
        except ResourceError:
            pass  # larger than what is free now

    def forget(self) -> None:
        """Remove everything of this crystal."""
        self._pending.clear()
        self._writer.submit(self._forget).result()

    def close(self) -> None:
        """Returns when everything is written."""
        self._writer.shutdown()

    def _key(self, planes: int) -> str:
        return f"{self._fingerprint} {planes} {self._pool.kind} {FORMAT}"

    def _index(self, key: str) -> _Saved:
        with self._lock:
            found = self._saved.get(key)
            if found is None:
                found = self._saved[key] = _Saved()
                for path in self._folder.glob(f"{self._name(key)}-*{SUFFIX}"):
                    with contextlib.suppress(H2QError):  # it will be evicted in its time
                        chain = chain_of(saved_tokens(path, key), key, whole=True)
                        if chain:
                            found.add(path, chain)
            return found

    def _name(self, key: str) -> str:
        return (
            f"{self._fingerprint[:16]}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
        )

    def _write(self, copied: Entry, key: str, chain: list[Digest]) -> None:
        size = sum(array.nbytes for array in copied.arrays.values()) + (1 << 16)
        if size > self._quota:
            return
        path = self._folder / f"{self._name(key)}-{chain[-1].hex()}{SUFFIX}"
        with contextlib.suppress(H2QError, OSError):  # a full disk keeps nothing warm
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._evict(size)
            write_stream(copied, path, key)
            saved = self._index(key)
            for before in [page for page in chain[:-1] if page in saved.files]:
                saved.remove(before)  # the same conversation, when it was shorter
            saved.add(path, chain)

    def _evict(self, size: int) -> None:
        """Make room; what a process that is gone had half written goes first."""
        found = []
        for path in self._folder.iterdir():
            if path.suffix != SUFFIX:
                continue
            with contextlib.suppress(OSError):
                if path.name.startswith("."):
                    _sweep(path)
                else:
                    state = path.stat()
                    found.append((state.st_mtime_ns, state.st_size, path))
        total = size + sum(bytes_ for _, bytes_, _ in found)
        for _, bytes_, path in sorted(found):
            if total <= self._quota:
                return
            path.unlink(missing_ok=True)
            total -= bytes_

    def _forget(self) -> None:
        with self._lock:
            self._saved.clear()
        for path in self._folder.glob(f"{self._fingerprint[:16]}-*{SUFFIX}"):
            path.unlink(missing_ok=True)


def chain_of(tokens: tuple[int, ...] | list[int], key: str, whole: bool = False) -> list[Digest]:
    """Digests of the full pages of a text, each of all up to its end. The last token is left out:
    in a stream its keys are not stored yet; `whole`: they are.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    chain = []
    for end in range(PAGE, len(tokens) + whole, PAGE):
        digest = digest_page(digest, tokens[end - PAGE : end])
        chain.append(digest)
    return chain


def _sweep(path: Path) -> None:
    owner = path.name[: -len(SUFFIX)].rpartition(".")[2]
    if owner.isdecimal() and int(owner) != os.getpid():
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
