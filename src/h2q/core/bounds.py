"""Fields of a description that are held to their bounds. Each raises SpecError with the field's
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from reprlib import repr as brief
from typing import Any

from h2q.core.errors import SpecError, shown


def require_integer(name: str, value: object, low: int, high: int) -> None:
    """A whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SpecError(
            f"{name} must be a whole number from {low:,} to {high:,}, not {brief(value)}."
        )


def require_number(name: str, value: object, above: float, high: float) -> None:
    """A number above `above` and at most high."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not above < value <= high:  # type: ignore[operator]  # NaN is not above anything
        raise SpecError(
            f"{name} must be a number above {above:g} and at most {high:g}, not {brief(value)}."
        )


def require_flag(name: str, value: object) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise SpecError(f"{name} must be true or false.")


def strict_fields(kind: type[Any], data: object, name: str) -> dict[str, Any]:
    """An object with exactly the fields of the dataclass `kind`. Raises SpecError."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{name} must be an object.")
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(data) - known):
        raise SpecError(f"Unknown fields of {name}: {', '.join(map(shown, unknown[:8]))}.")
    if missing := sorted(known - set(data)):
        raise SpecError(f"Missing fields of {name}: {', '.join(missing)}.")
    return dict(data)
