"""How commands speak: progress and words on stderr, one JSON document or a table on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from h2q.core.errors import H2QError
from h2q.core.events import Progress, ProgressListener
from h2q.core.units import format_bytes


def say(words: str = "") -> None:
    """A line for the person."""
    print(words, file=sys.stderr, flush=True)


def emit(document: dict[str, Any]) -> None:
    """The one JSON document of a command, on one line."""
    print(json.dumps(document), flush=True)


def fail(error: H2QError, as_json: bool) -> int:
    """Tell an error in the form that was asked for; returns the exit code."""
    if as_json:
        fields = {"what": error.what, "where": error.where, "fix": error.fix}
        emit({"error": {"type": type(error).__name__, **fields}})
    say(f"error: {error}")
    return error.exit_code


def table(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Names and values under a title, on stdout."""
    width = max((len(name) for name, _ in rows), default=0)
    print(title)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    sys.stdout.flush()


def columns(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table with a line of heads, on stdout."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("   ".join(cells).rstrip())
    sys.stdout.flush()


@contextmanager
def progress() -> Iterator[ProgressListener]:
    """A bar per stage with an estimate of the time left; plain lines where stderr is no
    terminal.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}
        seen: dict[str, float] = {}

        def listen(event: Progress) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(event.stage, total=event.total, amount="")
            elif event.done < seen[event.stage]:  # begun anew: its time left too
                bars.reset(tasks[event.stage], total=event.total)
            seen[event.stage] = event.done
            bars.update(
                tasks[event.stage],
                completed=event.done,
                total=event.total,
                amount=_amount(event),
            )

        yield listen


def _amount(event: Progress) -> str:
    """Done of total where that says more than a share: bytes and files."""
    if event.unit == "bytes":
        return f"{format_bytes(int(event.done))} of {format_bytes(int(event.total))}"
    return f"{event.done:.0f} of {event.total:.0f} files" if event.unit == "files" else ""


class _Lines:
    """One line when a stage begins; logs stay short."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def __call__(self, event: Progress) -> None:
        if event.stage not in self._begun:
            self._begun.add(event.stage)
            say(f"{event.stage} ...")
