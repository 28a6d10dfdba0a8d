"""A model's text as it arrives, told apart: what is meant for the reader, what it thinks, what it
wants called.

Only what could still become a tag is held back, and the body of a call until it is whole. Any
cutting of the same text gives the same events once neighbours of a kind are joined.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from h2q.text.dialects import Dialect
from h2q.text.json_end import JsonEnd
from h2q.text.stops import held_back

MAX_CALL = 1 << 18  # characters of one call; a longer one is told as content
MAX_LEAD = 1024  # characters of white space before an answer


@dataclass(frozen=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """Text the model wrote to itself."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A function to be called: `arguments` is the text of a JSON object."""

    name: str
    arguments: str


SplitEvent = Content | Reasoning | ToolCall
Steps = Generator[SplitEvent, None, str]  # gives back what is left of the piece


class Splitter:
    """Text of one answer in, events out. `reasoning`: the prompt has already opened it.

    `unfinished` is, after `flush`, "reasoning" or "tool_call" when the text ended inside one; a
    call without its end is told as content, exactly as written, unless its JSON is whole.
    """

    def __init__(self, dialect: Dialect, reasoning: bool = False) -> None:
        self.dialect = dialect
        self.unfinished = ""
        self._state = "reasoning" if reasoning and dialect.think_close else "content"
        self._held = ""  # of content and reasoning: what may become a tag
        self._call: list[str] = []  # of a call: what was written, its opening first
        self._size = 0
        self._tail = ""  # of a call: what may be the begin of its closing tag
        self._end: JsonEnd | None = None  # of a call without a closing tag
        self._fresh = self._state == "content"  # nothing but white space so far
        self._trim = False  # white space between a tag and what follows belongs to neither

    def push(self, text: str) -> list[SplitEvent]:
        """Events that this piece made certain."""
        return joined(self._events(text))

    def flush(self) -> list[SplitEvent]:
        """What is left when the text ends."""
        events: list[SplitEvent] = []
        if self._state == "call":
            events = self._called("".join(self._call[1:]))
            self.unfinished = "" if events else "tool_call"
            events = events or [Content("".join(self._call))]
            self._call, self._state = [], "content"
        else:
            self.unfinished = "reasoning" if self._state == "reasoning" else ""
            events = list(self._told(self._held))
        self._held = ""
        return events

    def _events(self, text: str) -> Iterator[SplitEvent]:
        while text:
            step = self._in_call if self._state == "call" else self._outside
            text = yield from step(text)

    def _outside(self, text: str) -> Steps:
        thinks = self._state == "reasoning"
        text = self._held + text
        self._held = ""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        if self._fresh:
            rest = self._opened(text)
            if rest is not None:
                return rest
        tag = self.dialect.think_close if thinks else self.dialect.call_open
        at = text.find(tag) if tag else -1
        if at < 0:
            kept = len(text) - held_back(text, tag)
            self._held = text[kept:]
            yield from self._told(text[:kept])
            return ""
        yield from self._told(text[:at])
        if thinks:
            self._state, self._trim = "content", True
        else:
            self._begin_call(tag, None if self.dialect.call_close else JsonEnd())
        return text[at + len(tag) :]

    def _opened(self, text: str) -> str | None:
        """At the begin of an answer: what follows the opening of reasoning or of a bare call, ""
        while that is open, None when the answer begins otherwise.
        """
        dialect, begun = self.dialect, text.lstrip()
        lead = len(text) - len(begun)
        if lead <= MAX_LEAD:
            if begun.startswith(dialect.think_open) and dialect.think_open:
                self._state, self._trim, self._fresh = "reasoning", True, False
                return begun[len(dialect.think_open) :]
            if dialect.bare and begun.startswith("{"):
                self._begin_call(text[:lead], JsonEnd())
                return begun
            if dialect.think_open.startswith(begun) if dialect.think_open else not begun:
                self._held = text
                return ""
        self._fresh = False
        return None

    def _told(self, text: str) -> Iterator[SplitEvent]:
        if text:
            yield Reasoning(text) if self._state == "reasoning" else Content(text)

    def _begin_call(self, opening: str, end: JsonEnd | None) -> None:
        self._state, self._call, self._end, self._fresh = "call", [opening], end, False
        self._size, self._tail = 0, ""

    def _in_call(self, text: str) -> Steps:
        close = self.dialect.call_close if self._end is None else ""
        if self._end is not None:
            used = self._end.feed(text)
        else:
            at = (self._tail + text).find(close)
            used = None if at < 0 else at + len(close) - len(self._tail)
        room = MAX_CALL + 1 - self._size
        done = used is not None and used <= room
        taken = used if used is not None and done else min(len(text), room)
        self._add(text[:taken], len(close))
        if not done and self._size <= MAX_CALL:
            return ""
        body = "".join(self._call[1:])
        events = self._called(body[: len(body) - len(close)]) if done else []
        self._trim = bool(events)
        yield from events or [Content(self._call[0] + body)]
        self._call, self._state = [], "content"
        return text[taken:]

    def _add(self, text: str, close: int) -> None:
        if text:
            self._call.append(text)
            self._size += len(text)
            self._tail = (self._tail + text)[-(close - 1) :] if close > 1 else ""

    def _called(self, body: str) -> list[SplitEvent]:
        """The calls in a body, none when it is not what a call looks like."""
        if len(body) > MAX_CALL:
            return []
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return []
        rows = found if isinstance(found, list) else [found]
        calls = [_call(row) for row in rows]
        return [call for call in calls if call is not None] if all(calls) else []


def _call(row: Any) -> ToolCall | None:
    if not isinstance(row, dict):
        return None
    inner = row.get("function")
    row = inner if isinstance(inner, dict) else row  # as OpenAI writes it
    name = row.get("name")
    arguments = row.get("arguments", row.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def joined(events: Iterable[SplitEvent]) -> list[SplitEvent]:
    """Neighbours of a kind as one event."""
    out: list[SplitEvent] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Content) and isinstance(last, Content):
            out[-1] = Content(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            out[-1] = Reasoning(last.text + event.text)
        else:
            out.append(event)
    return out
