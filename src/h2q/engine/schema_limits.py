"""What a JSON Schema may ask of the grammar compiler, checked before it begins.

The compiler bounds its own memory, not its time: a divisor of a million takes it a minute, five
thousand properties twenty seconds. What it costs grows with these counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from h2q.core.errors import UsageError

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_VALUES = 8192
MAX_PROPERTIES = 512
MAX_CHOICES = 2048  # of all enums and alternatives
MAX_PATTERN = 1024  # characters of all patterns
MAX_JOINT = 6  # different patterns that a schema may join with one another; thirty never end
MAX_DIVISOR = 10_000  # least common multiple of all `multipleOf`, points left out
MAX_DIGITS = 6  # after the point of a `multipleOf`
WHERE = "format"


def require_modest(schema: Any) -> str:
    """The text of a schema. Raises UsageError when it is no schema or asks too much."""
    if not isinstance(schema, (dict, bool)):
        raise _refused("is neither an object nor a truth value")
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise _refused("cannot be written as JSON") from None
    if len(text) > MAX_BYTES:
        raise _refused(f"is larger than {MAX_BYTES >> 10} KiB")
    _count(schema)
    return text


def _count(schema: Any) -> None:
    values = properties = choices = patterns = 0
    divisor = 1
    joins = False
    shapes: set[str] = set()
    for key, value, depth in _walked(schema, 0):
        values += 1
        if depth > MAX_DEPTH:
            raise _refused(f"nests deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict) and key == "properties":
            properties += len(value)
        if isinstance(value, list) and key in ("enum", "anyOf", "oneOf", "allOf", "type"):
            choices += len(value)
        if key == "pattern" and isinstance(value, str):
            patterns += len(value)
        if key == "patternProperties" and isinstance(value, dict):
            patterns += sum(map(len, value))
        joins = joins or key in ("allOf", "anyOf", "oneOf", "$ref")
        if key in ("pattern", "format"):
            shapes.add(str(value))
        if key == "multipleOf":
            divisor = math.lcm(divisor, _whole(value))
    for count, limit, what in (
        (values, MAX_VALUES, "values"),
        (properties, MAX_PROPERTIES, "properties"),
        (choices, MAX_CHOICES, "choices"),
        (patterns, MAX_PATTERN, "letters of patterns"),
        (len(shapes) if joins else 0, MAX_JOINT, "patterns beside alternatives or references"),
        (divisor, MAX_DIVISOR, "as the common `multipleOf`"),
    ):
        if count > limit:
            raise _refused(f"has more than {limit:,} {what}")


def _walked(value: Any, depth: int, key: str = "") -> Iterator[tuple[str, Any, int]]:
    yield key, value, depth
    if depth > MAX_DEPTH:
        return
    rows = value.items() if isinstance(value, dict) else ()
    for name, inner in rows:
        yield from _walked(inner, depth + 1, str(name))
    for inner in value if isinstance(value, list) else ():
        yield from _walked(inner, depth + 1)


def _whole(value: Any) -> int:
    """A divisor without its point: 0.25 is 25."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _refused("has a `multipleOf` that is no number") from None
    if isinstance(value, bool) or not number.is_finite() or number <= 0:
        raise _refused("has a `multipleOf` that is not above 0")
    if number.normalize().as_tuple().exponent < -MAX_DIGITS or number > MAX_DIVISOR:  # type: ignore[operator]
        raise _refused("has a `multipleOf` too fine or too large")
    return int(number.scaleb(MAX_DIGITS)) // math.gcd(
        int(number.scaleb(MAX_DIGITS)), 10**MAX_DIGITS
    )


def _refused(what: str) -> UsageError:
    return UsageError(
        f"The JSON Schema {what}.", where=WHERE, fix="Ask for a simpler form of answer."
    )
