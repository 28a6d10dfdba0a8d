"""Refinement groups coming in behind a model that already talks, and given back.

One thread of low priority brings shards into memory by rank. While tokens are said it keeps
to a rate, so that they hardly wait for it. What it brought is used when the model's own thread
takes it up, between two tokens.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from h2q.core.errors import H2QError
from h2q.core.paging import forget_file, populate, release, step_back
from h2q.crystal import Crystal

CHUNK = 1 << 20
RATE = 256 << 20  # bytes a second while tokens are said
PAUSE = 0.3  # seconds after a token in which the next one may still come
GRACE = 1.0  # seconds that a first token has before refinement competes with it

Told = Callable[[], Callable[[], None] | None]  # a weak reference


class Refining:
    """`aim` groups are wanted in memory, `ready` are there. What `told()` gives, if it is still
    there, is called in the thread of this when a group came in. Raises nothing; what went wrong is
    `error`, and no more comes in.
    """

    def __init__(self, crystal: Crystal, aim: int, told: Told) -> None:
        self._crystal, self._told = crystal, told
        self.aim, self.ready = aim, 0
        self.error: H2QError | None = None
        self.bytes = 0
        self._hurried = 0  # groups that somebody waits for
        self._spoke = 0.0
        self._closed = False
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to bring in."""
        self._thread = threading.Thread(target=self._run, name="refine", daemon=True)
        self._thread.start()

    def bring(self, groups: int) -> None:
        """Bring groups in at once, in the calling thread, before `start`. Raises CrystalError."""
        while self.ready < groups:
            self._bring(self.ready + 1)

    def spoke(self) -> None:
        """A token was said just now."""
        first, self._spoke = not self._spoke, time.monotonic()
        if first:
            with self._news:
                self._news.notify_all()

    def want(self, aim: int) -> None:
        """How many groups are wanted from now on; what is too much goes by `give_back`."""
        with self._news:
            self.aim = aim
            self._news.notify_all()

    def wait(self, groups: int) -> None:
        """Until so many groups are there, at full speed. Raises what went wrong."""
        with self._news:
            self._hurried = groups
            self._news.notify_all()
            self._news.wait_for(
                lambda: self.ready >= groups or self.error is not None or self._closed
            )
            self._hurried = 0
        if self.error is not None and self.ready < groups:
            raise self.error.at(self.error.where)

    def give_back(self, groups: int) -> None:
        """Let all groups beyond the first `groups` go, memory first; call when no model uses them,
        and nothing more is wanted than they.
        """
        with self._news:
            gone = range(self.ready, groups, -1)
            self.ready = min(self.ready, groups)
        for group in gone:
            self._release(group)

    def fail(self, error: H2QError) -> None:
        """Bring in no more, and say why to whoever waits."""
        with self._news:
            self.error = error
            self._news.notify_all()

    def close(self) -> None:
        """Bring in no more; returns when nobody does."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        step_back()
        with self._news:
            self._news.wait_for(lambda: self._closed or self._hurried or self._spoke, GRACE)
        while True:
            with self._news:
                self._news.wait_for(
                    lambda: self._closed or (self.aim > self.ready and self.error is None)
                )
                if self._closed:
                    return
                group = self.ready + 1
            try:
                self._bring(group)
            except H2QError as error:
                self.fail(error)

    def _unwanted(self, group: int) -> bool:
        return self._closed or self.aim < group

    def _bring(self, group: int) -> None:
        self._crystal.require(group)
        data = self._crystal.mapped(group)
        digest = hashlib.sha256() if group in self._crystal.unproven else None
        for begin in range(0, data.nbytes, CHUNK):
            if self._unwanted(group):
                self._release(group)
                return
            count = min(CHUNK, data.nbytes - begin)
            began = time.monotonic()
            populate(data.ctypes.data + begin, count)
            if digest is not None:
                digest.update(data[begin : begin + count].data)
            if self._hurried < group and began - self._spoke < PAUSE:
                time.sleep(max(0.0, count / RATE - (time.monotonic() - began)))
        if digest is not None:
            self._crystal.prove(group, digest.hexdigest())
        for name, _ in self._crystal.rank[group - 1]:
            self._crystal.planes(name, group)  # scales are looked at here, not between two tokens
        with self._news:
            kept = not self._unwanted(group)
            if kept:
                self.ready = group
                self.bytes += data.nbytes
                self._news.notify_all()
        if not kept:
            self._release(group)
        elif (told := self._told()) is not None:
            told()

    def _release(self, group: int) -> None:
        data = self._crystal.mapped(group)
        release(data.ctypes.data, data.nbytes)
        self._crystal.forget(group)
        entry = self._crystal.manifest.files[group]
        try:
            with (self._crystal.path / entry.name).open("rb") as file:
                forget_file(file.fileno())
        except OSError:
            return  # its pages are the system's to judge
