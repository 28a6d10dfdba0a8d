"""The log: one JSON object per line on stderr, with request ids and without what people wrote."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO, TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from h2q.server.refusal import Refusal
    from h2q.server.request import Request

_encode = msgspec.json.Encoder().encode
MAX_TRACE = 8000


class Log:
    """Writes events. `quiet`: only failures."""

    def __init__(self, out: IO[str] | None = None, quiet: bool = False) -> None:
        self._out, self._quiet = out or sys.stderr, quiet

    def write(self, event: str, **fields: Any) -> None:
        """A line: when, what, and its fields."""
        line = {"time": round(time.time(), 3), "event": event, **fields}
        try:
            self._out.write(_encode(line).decode() + "\n")
            self._out.flush()
        except (OSError, ValueError):  # a closed pipe must not end answers
            pass

    def request(self, scope: dict[str, Any], status: int, seconds: float, model: str) -> None:
        """A request that has ended."""
        if self._quiet:
            return
        self.write(
            "request",
            id=scope["h2q.id"],
            method=scope["method"],
            path=scope["path"][:200],
            status=status,
            seconds=round(seconds, 6),
            client=scope["h2q.client"],
            model=model,
        )

    def failed(self, request: Request, error: BaseException, refusal: Refusal) -> None:
        """A request that went wrong; an error of ours with its trace."""
        fields: dict[str, Any] = {"id": request.id, "status": refusal.status}
        if refusal.status >= 500 and type(error).__module__.partition(".")[0] != "h2q":
            fields["trace"] = "".join(traceback.format_exception(error))[-MAX_TRACE:]
        self.write("failed", error=type(error).__name__, message=refusal.message[:500], **fields)
