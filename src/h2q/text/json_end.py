"""Where a JSON value ends in text that arrives in pieces: brackets are counted, strings skipped."""

from __future__ import annotations

OPENING, CLOSING = "{[", "}]"


class JsonEnd:
    """Of an object or array. Text that begins otherwise ends at once: it is none."""

    def __init__(self) -> None:
        self._depth = 0
        self._inside = False  # a string
        self._escaped = False

    def feed(self, text: str) -> int | None:
        """How much of the piece belongs to the value, None when all of it does and more may
        follow.
        """
        for at, letter in enumerate(text):
            if self._inside:
                self._inside = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"' and self._depth:
                self._inside = True
            elif letter in OPENING:
                self._depth += 1
            elif letter in CLOSING and self._depth:
                self._depth -= 1
                if not self._depth:
                    return at + 1
            elif not self._depth and not letter.isspace():
                return at
        return None
