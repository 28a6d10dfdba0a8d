"""Lines that a person writes: from a terminal with keys that edit and a history, or from a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from h2q.core.errors import UsageError

QUOTES = '"""'
KEPT = 1000  # lines of the history
MAX_TEXT = 16 << 20


class Interrupted(Exception):  # noqa: N818 - it is not a failure
    """Ctrl-C while a line is written."""


class Lines:
    """Reads texts; `prompts` is whether a person sees them being asked for."""

    def __init__(self, history: Path) -> None:
        self.prompts = sys.stdin.isatty()
        self._history = history
        self._editor = _editor() if self.prompts else None
        if self._editor is not None:
            with contextlib.suppress(OSError):
                self._editor.read_history_file(str(history))
            self._editor.set_history_length(KEPT)

    def read(self, remember: bool) -> str | None:
        """The next text, of one line or of many between quotes; None at the end. Raises
        Interrupted, and UsageError for a text without an end or beyond all measure.
        """
        if self._editor is not None:
            self._editor.set_auto_history(remember)
        line = self._line(">>> ")
        if line is None:
            return None
        text = line.strip()
        if text.count(QUOTES) != 1 or not _opens(text):
            return text
        size = len(text)
        while True:
            line = self._line("... ")
            if line is None:
                raise UsageError('A text that begins with """ must end with it.')
            text += "\n" + line
            size += len(line)
            if size > MAX_TEXT:
                raise UsageError(f"The text is longer than {MAX_TEXT:,} letters.")
            if line.rstrip().endswith(QUOTES):
                return text.rstrip()

    def keep(self) -> None:
        """Write the history down, for its owner alone."""
        if self._editor is None:
            return
        with contextlib.suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_CREAT | os.O_RDWR, 0o600))
            self._editor.write_history_file(str(self._history))

    def _line(self, prompt: str) -> str | None:
        if not self.prompts:
            line = sys.stdin.readline(MAX_TEXT)
            return line.rstrip("\n") if line else None
        with interruptible(_raise):
            try:
                return input(prompt)
            except EOFError:
                return None
            except UnicodeDecodeError as error:
                raise UsageError("This is not UTF-8 text.") from error


def _opens(text: str) -> bool:
    """Quotes stand where a text may begin: first, or behind a command's words."""
    return text.startswith((QUOTES, "/"))


@contextlib.contextmanager
def interruptible(handler: Any) -> Iterator[None]:
    """Ctrl-C does what the handler does."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _raise(_signal: int, _frame: object) -> None:
    raise Interrupted


def _editor() -> ModuleType | None:
    """Keys that edit a line, where the system has them."""
    try:
        import readline
    except ImportError:
        return None
    return readline
