"""Operations that could make something large out of something small, asked before they are done."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from h2q.core.errors import TextError

MAX_TEXT = 4 << 20  # characters of one value, and of all output together
MAX_WEIGHT = 1 << 20  # values inside one value
MAX_BITS = 512  # of a whole number
MAX_RANGE = 100_000
MAX_PADDING = 1024
MAX_INDENT = 16
MAX_DEPTH = 100


class Steps:
    """What is left of the work a rendering may do."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def spend(self, count: int) -> None:
        """Raises TextError when nothing is left."""
        self.left -= count
        if self.left < 0:
            raise TextError(
                f"The chat template takes more than {self.limit:,} steps.",
                where="chat template",
                fix="Shorten the conversation, or take the template of the model's own publisher.",
            )

    @contextmanager
    def counted(self, own: Collection[str]) -> Iterator[None]:
        """Counts lines of Python that run inside, in this thread; of files in `own` only calls:
        they charge for what they do.
        """

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            self.spend(1)
            return None if frame.f_code.co_filename in own else trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


class Weights:
    """How many values each container holds, itself and repetitions included. Those weighed are
    kept, so that a list inside ten lists is walked once.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, int]] = {}

    def of(self, value: object, depth: int = 0) -> int:
        """Raises TextError beyond MAX_WEIGHT or MAX_TEXT."""
        if isinstance(value, str):
            return 1 + text_size(value) // 64
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise too_much("a number")
            return 1
        if not isinstance(value, (list, tuple, dict)):
            return 1
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if depth > MAX_DEPTH:
            raise too_much("nesting")
        inner: Iterable[object] = value
        if isinstance(value, dict):
            inner = (each for pair in value.items() for each in pair)
        total = 1
        for each in inner:
            total += self.of(each, depth + 1)
            if total > MAX_WEIGHT:
                raise too_much("a list")
        self._known[id(value)] = (value, total)
        return total


def text_size(text: str) -> int:
    if len(text) > MAX_TEXT:
        raise too_much("a text")
    return len(text)


def too_much(what: str) -> TextError:
    return TextError(
        f"The chat template makes {what} too large.",
        where="chat template",
        fix="Take the template of the model's own publisher.",
    )


def bounded(values: Iterable[Any]) -> Iterator[Any]:
    for index, value in enumerate(values):
        if index >= MAX_WEIGHT:
            raise too_much("a list")
        yield value


def short_range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise too_much("a range")
    return found


def replaced(s: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(s), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    if len(text) + times * len(new) > MAX_TEXT:
        raise too_much("a text")
    return text.replace(old, new, -1 if count is None else count)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not 0 <= int(indent) <= MAX_INDENT:
        raise too_much("an indentation")
    written = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    text_size(written)
    return written


def joined(parts: Iterable[str], between: str = "") -> str:
    out, size = [], 0
    for part in parts:
        size += len(part) + len(between)
        if size > MAX_TEXT:
            raise too_much("a text")
        out.append(part)
    return between.join(out)


def indented(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(max(int(width), 0), MAX_PADDING)
    lines = str(s).split("\n")
    if len(lines) * len(margin) > MAX_TEXT:
        raise too_much("a text")
    shown = [
        margin + line if (first if index == 0 else line or blank) else line
        for index, line in enumerate(lines)
    ]
    return "\n".join(shown)
