"""Parameters of Modelfiles and requests to create: their names and types, as Ollama has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from h2q.core.errors import UsageError, shown

WHOLE = frozenset(
    {
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
    }
)
NUMBERS = frozenset(
    {
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    }
)
FLAGS = frozenset({"use_mmap"})
TEXTS = frozenset({"stop"})
# Words that Ollama no longer heeds.
PASSED_OVER = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "tfs_z",
        "numa",
    }
)
MAX_STOPS, MAX_STOP_BYTES = 64, 4096


def parse_parameter(name: str, text: str) -> int | float | bool | tuple[str, ...] | None:
    """The value of a PARAMETER line; None for one that is no longer heeded. Raises UsageError."""
    try:
        if name in WHOLE:
            return _whole(name, json.loads(text) if text[:1] in "-0123456789" else text)
        if name in NUMBERS:
            return _number(name, float(text))
        if name in FLAGS:
            return {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}[
                text.lower()
            ]
    except (ValueError, KeyError, RecursionError):
        raise _wrong(name, text) from None
    if name in TEXTS:
        return _stops((text,))
    if name in PASSED_OVER:
        return None
    raise UsageError(f"unknown parameter {shown(name)}", where=name[:80])


def checked_parameters(table: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The parameters of a request, in its order. Raises UsageError."""
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        if value is None or name in PASSED_OVER:
            continue
        if name in WHOLE:
            found.append((name, _whole(name, value)))
        elif name in NUMBERS:
            found.append((name, _number(name, value)))
        elif name in FLAGS:
            if not isinstance(value, bool):
                raise _wrong(name, value)
            found.append((name, value))
        elif name in TEXTS:
            texts = (value,) if isinstance(value, str) else value
            if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
                raise _wrong(name, value)
            found.append((name, _stops(tuple(texts))))
        else:
            raise UsageError(f"unknown parameter {shown(name)}", where=name[:80])
    return tuple(found)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(name, value)
    if abs(value) >= 1 << 63:
        raise _wrong(name, value)
    return int(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(name, value)
    return float(value)


def _stops(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > MAX_STOPS or any(
        len(t.encode("utf-8", "replace")) > MAX_STOP_BYTES for t in texts
    ):
        raise UsageError(f"stop has at most {MAX_STOPS} texts of {MAX_STOP_BYTES:,} bytes.")
    return tuple(filter(None, texts))


def _wrong(name: str, value: object) -> UsageError:
    kind = "a whole number" if name in WHOLE else "a number" if name in NUMBERS else "true or false"
    kind = "a list of texts" if name in TEXTS else kind
    return UsageError(f"{name} must be {kind}, not {shown(str(value))}.", where=name)
