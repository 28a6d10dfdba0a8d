"""Reading an answer: as fast as the reader takes it, and no further ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

from h2q.core.asks import Ask
from h2q.core.errors import H2QError
from h2q.core.events import TokenEvent
from h2q.runtime.answer import Reader
from h2q.runtime.worker import SHARE

Work = Callable[[], None]


@dataclass(frozen=True)
class Going:
    """An answer under way. `cancel` ends it within one step. `took`: so many events more have been
    read; an answer with more than AHEAD unread rests, the others do not wait for it.
    """

    cancel: Work
    took: Callable[[int], None]


def events_of(
    submit: Callable[[Ask, Reader], Going], ask: Ask, turn: Callable[[], bool] | None = None
) -> Iterator[TokenEvent]:
    """The events of an answer, waited for in this thread; closing the iterator ends it. turn: lets
    the model go on where no other thread does.
    """
    queue: SimpleQueue[TokenEvent | H2QError] = SimpleQueue()

    def read(events: list[TokenEvent], error: H2QError | None) -> None:
        for event in events:
            queue.put(event)
        if error is not None:
            queue.put(error)

    going, count = submit(ask, read), 0
    try:
        while True:
            while turn is not None and queue.empty() and turn():
                pass
            found = queue.get()
            if isinstance(found, H2QError):
                raise found
            count += 1
            if count % SHARE == 0:
                going.took(SHARE)
            yield found
            if found.finish:
                return
    finally:
        going.cancel()
