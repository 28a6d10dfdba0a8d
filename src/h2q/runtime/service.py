"""A model that answers: one thread runs its scheduler, any thread asks.

Between two steps the thread takes what came in meanwhile: asks, ends of asks, texts to embed,
wishes; and lets the model switch planes.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.errors import H2QError, ResourceError
from h2q.core.events import TokenEvent
from h2q.engine.requests import Said
from h2q.engine.scheduler import Scheduler
from h2q.runtime.answer import Answer, Reader
from h2q.runtime.asking import Asking, Prepared
from h2q.runtime.embedding import embedded
from h2q.runtime.loading import Started, cache_pages
from h2q.runtime.mailbox import Mailbox
from h2q.runtime.reading import Going, Work, events_of
from h2q.runtime.starting import start
from h2q.runtime.state import state_of
from h2q.runtime.wishes import fulfil
from h2q.runtime.worker import AHEAD, ENDED, Control, Order, WorkerState

if TYPE_CHECKING:
    from h2q.runtime.warm import Warm


class Service:
    """A started model with its cache. `hook`, when set, is called after every step whose events
    were told. alone: no thread of its own; it steps while one reader waits in `generate`, which
    spares changing threads with every token. Raises what loading raises; every answer's errors go
    to its reader alone.
    """

    def __init__(self, order: Order, started: Started | None = None, alone: bool = False) -> None:
        self.started: Started = start(order) if started is None else started
        self.order = order = self.started.order
        self.pool = cache_pages(self.started)
        self.scheduler = Scheduler(
            self.started.model, self.pool, order.streams, self.started.rows, self.started.drafter
        )
        self.asking = Asking(self.started, self.pool, order.template)
        self.warm = _warm(self)
        self.hook: Work | None = None
        self.prefix_hits = 0
        self._epochs = itertools.count()
        self._answers: dict[int, Answer] = {}
        self._held: deque[tuple[int | None, Prepared]] = deque()  # may wait for other planes
        self._pinned_by: set[Answer] = set()
        self.pinned: int | None = None  # as wished by who looks after the model
        self._mail = Mailbox()
        self._new_root()
        self._thread: threading.Thread | None = None
        if not alone:
            self._thread = threading.Thread(target=self._run, name="model", daemon=True)
            self._thread.start()
        self.started.wake = lambda: self._mail.post(lambda: None)

    def submit(self, ask: Ask, reader: Reader) -> Going:
        """Begin an answer. Raises what preparing the ask raises."""
        prepared = self.asking.prepare(ask, reader)
        answer = prepared.answer
        self._mail.post(lambda: self._hold(ask.planes, prepared))
        return Going(
            lambda: self._mail.post(lambda: self._cancel(answer)),
            lambda count: self._mail.post(lambda: self._took(answer, count)),
        )

    def generate(self, ask: Ask) -> Iterator[TokenEvent]:
        """Answer an ask in the calling thread's time; closing the iterator ends it."""
        return events_of(self.submit, ask, self._turn if self._thread is None else None)

    def embed(self, ask: EmbedAsk) -> Embeddings:
        """Waits for its turn between steps, one text at a time."""
        return embedded(self, ask)

    def count(self, ask: Ask) -> int:
        """Tokens of a prompt, however long."""
        return len(self.asking.prompter.prompt(ask).tokens)

    def control(self, control: Control) -> WorkerState:
        """Fulfil a wish; it holds from the next step on."""
        fulfil(self, control)
        self._mail.post(lambda: None)
        return self.state()

    def state(self) -> WorkerState:
        """Of now, from any thread; figures of two neighbouring steps may meet."""
        return state_of(self)

    @property
    def waiting(self) -> int:
        """Answers that have not begun."""
        return self.scheduler.waiting + len(self._held)

    def forget(self) -> None:
        """Drop saved prefixes."""
        self._mail.post(self._new_root)
        if self.warm is not None:
            self._mail.post(self.warm.forget)

    def close(self) -> None:
        """End all answers with an error and give everything back; returns when that is done."""
        self._mail.close()
        if self._thread is None:
            self._end()
        elif threading.current_thread() is not self._thread:
            self._thread.join()

    def called(self, work: Callable[[], bytes]) -> bytes:
        """Do work in the model's thread, between steps, and wait for it."""
        return work() if self._thread is None else self._mail.called(work)

    def _run(self) -> None:
        while self._turn():
            pass
        self._end()

    def _turn(self) -> bool:
        """Take what came in and step once, when there is anything to do; False when it closes."""
        if not self._mail.do(self._busy, self._patience):
            return False
        try:
            self._step()
        except H2QError as error:
            self._fail(error)
        except Exception as error:  # a fault of ours must not silence whoever waits
            traceback.print_exc(file=sys.stderr)
            self._fail(H2QError(f"The model failed: {type(error).__name__}: {error}"))
        return True

    def _busy(self) -> bool:
        return self.scheduler.busy or self._may_release

    def _patience(self) -> float | None:
        return self.warm.wait_seconds() if self.warm else None

    def _end(self) -> None:
        self._fail(ResourceError(ENDED))
        if not self._mail.end():
            return
        if self.warm is not None:
            self.warm.save(self.started.planes)
            self.warm.close()
        self.started.close()

    def _step(self) -> None:
        self._release()
        if self.started.between_steps():
            self._new_root()
        if not self.scheduler.busy:
            if self.warm is not None and self.warm.wait_seconds() == 0:
                self.warm.save(self.started.planes)
            return
        now = time.perf_counter()
        said = self.scheduler.step()
        self._note_begun(now, said)
        events: dict[int, list[TokenEvent]] = {}
        for one in said:
            answer = self._answers.get(one.stream)
            if answer is None:
                continue
            try:
                events.setdefault(one.stream, []).extend(answer.hear(one, self.started.planes))
            except H2QError as error:
                self._forget(one.stream)
                answer.reader(events.pop(one.stream, []), error)
        for stream, found in events.items():
            answer = self._answers[stream]
            answer.unread += len(found)
            if answer.done:
                self._forget(stream)
            elif answer.unread > AHEAD:
                self.scheduler.resting.add(stream)
            answer.reader(found, None)
        if self.hook is not None and said:
            self.hook()
        if any(one.likelihood is not None for one in said):
            self.started.spoke()

    def _note_begun(self, now: float, said: list[Said]) -> None:
        for stream in {*self.scheduler.running, *(one.stream for one in said)}:
            answer = self._answers.get(stream)
            if answer is not None and answer.begun is None:
                answer.begun = now
        for one in said:
            self.prefix_hits += one.index == 0 and one.token >= 0 and one.prefix > 0

    def _new_root(self) -> None:
        """Keys and values of other planes must not be found."""
        told = f"{self.started.fingerprint} {self.started.planes} {next(self._epochs)}"
        self.pool.root = hashlib.blake2b(told.encode(), digest_size=16).digest()

    def _hold(self, planes: int | None, prepared: Prepared) -> None:
        if self._mail.closing:
            prepared.answer.reader([], ResourceError(ENDED))
        else:
            self._held.append((planes, prepared))

    @property
    def _may_release(self) -> bool:
        planes = self._held[0][0] if self._held else None
        idle = not (self._answers or self.scheduler.waiting)
        return bool(self._held) and (planes in (None, self.started.planes) or idle)

    def _release(self) -> None:
        """Let asks begin in order. One for other planes than are in force waits, with all behind
        it, until the model is idle.
        """
        while self._may_release:
            planes, prepared = self._held.popleft()
            answer = prepared.answer
            if answer.done:
                continue
            if planes is not None:
                self.started.pin(planes)
                if self.started.between_steps():
                    self._new_root()
                self._pinned_by.add(answer)
            if self.warm is not None:
                self.warm.restore(prepared.request.prompt, self.started.planes)
            try:
                self._answers[self.scheduler.add(prepared.request)] = answer
            except H2QError as error:
                self._let_go(answer)
                answer.reader([], error)

    def _cancel(self, answer: Answer) -> None:
        answer.done = True
        for stream, one in list(self._answers.items()):
            if one is answer:
                self._forget(stream)

    def _took(self, answer: Answer, count: int) -> None:
        answer.unread -= count
        for stream, one in self._answers.items():
            if one is answer and answer.unread <= AHEAD:
                self.scheduler.resting.discard(stream)

    def _forget(self, stream: int) -> None:
        self.scheduler.cancel(stream)
        answer = self._answers.pop(stream)
        if self.warm is not None:
            self.warm.ended(answer.tokens, self.started.planes)
        self._let_go(answer)

    def _let_go(self, answer: Answer) -> None:
        if answer in self._pinned_by:
            self._pinned_by.discard(answer)
            if not self._pinned_by:
                self.started.pin(self.pinned)

    def _fail(self, error: H2QError) -> None:
        answers = list(self._answers.values()) + [prepared.answer for _, prepared in self._held]
        for stream in list(self._answers):
            self._forget(stream)
        self._held.clear()
        for answer in answers:
            answer.reader([], error)


def _warm(service: Service) -> Warm | None:
    order = service.order
    if order.warm is None:
        return None
    from h2q.runtime.warm import Warm

    return Warm(Path(order.warm), order.warm_bytes, service.started.fingerprint, service.pool)
