"""How long a model stays: a number of seconds, or a duration as Go writes it."""

from __future__ import annotations

import math
import os
import re

from h2q.core.errors import UsageError
from h2q.server.refusal import Refusal

UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_NUMBER = r"(\d+\.?\d*|\.\d+)"
_PIECE = re.compile(_NUMBER + "(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"[-+]?(?:{_PIECE.pattern})+")
LONGEST = (1 << 63) / 1e9  # seconds in Go's longest duration
FOREVER = -1.0
DEFAULT = 300.0


def keep_alive(value: object) -> float | None:
    """Seconds, FOREVER for any negative, None where nothing is said. Raises Refusal (400)."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _bounded(float(value)) if abs(value) < 1e300 else FOREVER
    if isinstance(value, str):
        return _bounded(duration(value))
    raise Refusal(400, "keep_alive must be a number of seconds or a duration like 5m")


def duration(text: str) -> float:
    """Seconds in a text like 1h30m or -1m. Raises Refusal (400)."""
    if text in ("0", "+0", "-0"):
        return 0.0
    if len(text) > 100 or not _WHOLE.fullmatch(text):
        bare = len(text) <= 100 and re.fullmatch(rf"[-+]?{_NUMBER}", text)
        reason = "missing unit in" if bare else "invalid"
        raise Refusal(400, f'time: {reason} duration "{text[:100]}"')
    seconds = sum(float(number) * UNITS[unit] for number, unit in _PIECE.findall(text))
    return -seconds if text[0] == "-" else seconds


def _bounded(seconds: float) -> float:
    return FOREVER if seconds < 0 or not math.isfinite(seconds) or seconds > LONGEST else seconds


def configured() -> float:
    """OLLAMA_KEEP_ALIVE; five minutes without it. Raises UsageError."""
    text = os.environ.get("OLLAMA_KEEP_ALIVE", "").strip()
    return asked(text, "OLLAMA_KEEP_ALIVE") if text else DEFAULT


def asked(text: str, where: str = "--keep-alive") -> float:
    """Seconds in what a person wrote, a bare number of them too. Raises UsageError."""
    try:
        return _bounded(float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else duration(text))
    except Refusal as error:
        raise UsageError(
            f"That is no duration: {error.message}.", where=where, fix="Write 300, 5m or -1."
        ) from None
