"""Stop strings in a stream of text: what could still become one is held back, nothing else.

At each moment the longest end of the text that begins some stop string decides how much waits.
Memory is at most one stop string.
"""

from __future__ import annotations

from collections.abc import Sequence

from h2q.core.errors import UsageError


class StopStrings:
    """Feeds text through until the first stop string, which is swallowed.

    The stop that is complete first wins, of those that end together the longest: what comes out
    does not depend on how the text was cut.
    Raises UsageError on an empty stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise UsageError("A stop string is empty.", where="stop")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Text that is certainly before any stop. After a stop was found: nothing."""
        if self.found is not None or not self._stops:
            return "" if self.found is not None else text
        text = self._held + text
        hits = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if hits:
            _, at, self.found = min(hits)
            self._held = ""
            return text[:at]
        kept = len(text) - max(held_back(text, stop) for stop in self._stops)
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        text, self._held = self._held, ""
        return text


def held_back(text: str, tag: str) -> int:
    """Length of the longest end of `text` that begins `tag` without being all of it."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[len(text) - size :]):
            return size
    return 0
