"""From what a stream says to the events of its answer: text, stops, parts, alternatives, usage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from h2q.core.errors import H2QError
from h2q.core.events import Alternative, Part, TokenEvent, Usage
from h2q.engine.requests import Said
from h2q.runtime.prompts import Prompt
from h2q.text.dialects import HARMONY
from h2q.text.harmony import HarmonySplitter
from h2q.text.splitter import Content, Reasoning, SplitEvent, Splitter
from h2q.text.stops import StopStrings

if TYPE_CHECKING:  # its library is loaded beside everything else
    from h2q.text.tokenizer import Tokenizer

Reader = Callable[[list[TokenEvent], H2QError | None], None]
KEPT_NAMES = 4096


class Answer:
    """One answer under way. `reader` is called from the model's thread with events, or with an
    error that ends the answer; it must not wait. cut: the ask's own bound of tokens is the
    context's, so that reaching it is the end of the context. asked: when, by time.perf_counter.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        stops: tuple[str, ...],
        split: bool,
        cut: bool,
        reader: Reader,
        names: Names | None,
        asked: float,
    ) -> None:
        self.reader, self._prompt, self._cut, self._names = reader, prompt, cut, names
        dialect = prompt.dialect
        self._text = tokenizer.stream(dialect.special_tags)
        self._stops = StopStrings(stops)
        kind = HarmonySplitter if dialect.name == HARMONY.name else Splitter
        self._split = kind(dialect, prompt.thinks) if split else None
        self._asked = asked
        self.begun: float | None = None
        self._first: float | None = None
        self.tokens = list(prompt.tokens)  # read and said
        self._count = 0
        self.unread = 0  # events the reader was given and has not taken
        self.done = False

    def hear(self, said: Said, planes: int) -> list[TokenEvent]:
        """Events of one thing said; none after the end. Raises the error that ended the stream."""
        if self.done:
            return []
        if said.error is not None:
            raise said.error
        told, now = said.likelihood, time.perf_counter()
        if told is None:
            return [self._end(said, planes, self._finish(said), now)]
        if self._first is None:
            self._first = now
        self._count += 1
        self.tokens.append(said.token)
        text = self._stops.push(self._text.push(said.token))
        event = TokenEvent(
            said.token,
            text,
            told.logprob,
            said.index,
            planes,
            now - self._asked,
            entropy=told.entropy,
            top=told.top,
            parts=self._parts(text, False),
        )
        if self._names is not None:
            found = self._names
            top = tuple(Alternative(token, found.of(token), value) for token, value in told.top)
            event = replace(event, piece=found.of(said.token), alternatives=top)
        if self._stops.found is None:
            return [event]
        return [event, self._end(replace(said, index=said.index + 1), planes, "stop", now)]

    def _finish(self, said: Said) -> str:
        return "context" if said.finish == "length" and self._cut else said.finish

    def _end(self, said: Said, planes: int, finish: str, now: float) -> TokenEvent:
        text = self._stops.push(self._text.flush()) + self._stops.flush()
        self.done = True
        usage = self._usage(said.prefix, now)
        parts = self._parts(text, True)
        seconds = now - self._asked
        return TokenEvent(
            -1, text, 0.0, said.index, planes, seconds, finish, parts=parts, usage=usage
        )

    def _usage(self, cached: int, now: float) -> Usage:
        begun = now if self.begun is None else self.begun
        first = now if self._first is None else self._first
        return Usage(
            len(self._prompt.tokens),
            self._count,
            cached,
            begun - self._asked,
            max(0.0, first - begun),
            now - self._asked,
            self._stops.found or "",
        )

    def _parts(self, text: str, last: bool) -> tuple[Part, ...]:
        if self._split is None:
            return (Part("content", text),) if text else ()
        found = self._split.push(text) if text else []
        if last:
            found += self._split.flush()
        return tuple(map(_part, found))


def _part(event: SplitEvent) -> Part:
    if isinstance(event, Content):
        return Part("content", event.text)
    if isinstance(event, Reasoning):
        return Part("reasoning", event.text)
    return Part("tool_call", event.arguments, event.name)


class Names:
    """Texts of single tokens, as they read behind another one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer.encode("a", special=False)[-1:]
        self._start = tokenizer.decode(self._before)
        self._known: dict[int, str] = {}

    def of(self, token: int) -> str:
        if token not in self._known:
            if len(self._known) >= KEPT_NAMES:
                self._known.clear()
            text = self._tokenizer.decode([*self._before, token])
            name = text[len(self._start) :] if text.startswith(self._start) else text
            self._known[token] = name or self._tokenizer.token_name(token)
        return self._known[token]
