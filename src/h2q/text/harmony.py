"""An answer in the channels of gpt-oss, told apart.

An answer is messages, each a header and a body: `<|channel|>analysis<|message|>` what it thinks
`<|end|><|start|>assistant<|channel|>final<|message|>` what it says `<|return|>`. A header with
`to=functions.NAME` makes the body a call, which ends at `<|call|>`. The prompt ends inside the
first header, or behind it. Pieces may be cut anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from h2q.text.dialects import Dialect
from h2q.text.splitter import MAX_CALL, Content, Reasoning, SplitEvent, ToolCall, joined
from h2q.text.stops import held_back

MESSAGE = "<|message|>"
BEGINS = ("<|start|>", "<|channel|>", "<|constrain|>", " to=")  # of what is left of a header
ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>")
LONGEST = max(map(len, ENDS))
MAX_HEADER = 1024  # characters; a longer one is told as content
CHANNEL = re.compile(r"<\|channel\|>\s*([a-z]+)")
RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")


class HarmonySplitter:
    """See text.splitter.Splitter, whose events and methods it has. `reasoning`: the prompt ended
    behind the header of what it thinks.
    """

    def __init__(self, dialect: Dialect, reasoning: bool = False) -> None:
        self.unfinished = ""
        self._calls = bool(dialect.call_open)
        # unknown: a header, or content behind one that the prompt ended with; then header,
        # reasoning, content or call.
        self._state = "reasoning" if reasoning else "unknown"
        self._held = ""  # what may become a tag; all of a header, all of a call
        self._looked = 0  # characters of a call that hold no tag
        self._name = ""  # of the function that is called

    def push(self, text: str) -> list[SplitEvent]:
        """Events that this piece made certain."""
        self._held += text
        return joined(self._events())

    def flush(self) -> list[SplitEvent]:
        """What is left when the text ends."""
        left, self._held = self._held, ""
        self.unfinished = "reasoning" if self._state == "reasoning" else ""
        if self._state == "call":
            events = list(self._called(left))
            self.unfinished = "" if any(isinstance(e, ToolCall) for e in events) else "tool_call"
            return events
        if self._state == "header" and left.startswith(BEGINS):
            return []
        return list(self._told(left))

    def _events(self) -> Iterator[SplitEvent]:
        while self._held:
            before = self._state, self._held
            if self._state == "unknown":
                self._begin()
            elif self._state == "header":
                yield from self._header()
            else:
                yield from self._body()
            if (self._state, self._held) == before:
                return

    def _begin(self) -> None:
        if self._held.startswith(BEGINS):
            self._state = "header"
        elif not any(tag.startswith(self._held) for tag in BEGINS):
            self._state = "content"

    def _header(self) -> Iterator[SplitEvent]:
        most = MAX_HEADER + len(MESSAGE)
        end = self._held.find(MESSAGE, 0, most)
        if end < 0:
            if len(self._held) >= most:
                text, self._held, self._state = self._held[:most], self._held[most:], "content"
                yield Content(text)
            return
        header, self._held = self._held[:end], self._held[end + len(MESSAGE) :]
        channel, recipient = CHANNEL.search(header), RECIPIENT.search(header)
        self._state, self._looked = "content", 0
        if recipient and self._calls:
            self._state, self._name = "call", recipient[1]
        elif channel and channel[1] == "analysis":
            self._state = "reasoning"

    def _body(self) -> Iterator[SplitEvent]:
        ends = [at for tag in ENDS if (at := self._held.find(tag, self._looked)) >= 0]
        if ends:
            text, self._held = self._held[: min(ends)], self._held[min(ends) :]
            yield from self._called(text) if self._state == "call" else self._told(text)
            tag = next(tag for tag in ENDS if self._held.startswith(tag))
            self._held, self._state = self._held[len(tag) :], "header"
            if tag in BEGINS:
                self._held = tag + self._held
            self._looked = 0
        elif self._state != "call":
            kept = len(self._held) - max(held_back(self._held, tag) for tag in ENDS)
            yield from self._told(self._held[:kept])
            self._held = self._held[kept:]
        elif len(self._held) > MAX_CALL + LONGEST:
            self._state, self._looked = "content", 0
        else:
            self._looked = max(0, len(self._held) - LONGEST)

    def _told(self, text: str) -> Iterator[SplitEvent]:
        if text:
            yield Reasoning(text) if self._state == "reasoning" else Content(text)

    def _called(self, body: str) -> Iterator[SplitEvent]:
        """The call in a body, or the body when it is no object."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and len(body) <= MAX_CALL:
            yield ToolCall(self._name, json.dumps(found, ensure_ascii=False))
        elif body:
            yield Content(body)
