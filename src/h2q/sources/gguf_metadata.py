"""Typed access to the metadata of a GGUF file: a value is of the wanted type, absent, or an
error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from h2q.core.errors import SourceError
from h2q.core.gguf_header import GGUFArray, Items, Value


@dataclass(frozen=True)
class Metadata:
    """The keys of one file; `where` names it in errors. Every method raises SourceError on a value
    of another type and returns None where the key is absent.
    """

    values: Mapping[str, Value]
    where: str

    def integer(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise self._wrong(key, "a number")
        return value

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> Sequence[str] | None:
        return cast("Sequence[str] | None", self._array(key, "a list of texts", str))

    def integers(self, key: str) -> Sequence[int] | None:
        return cast("Sequence[int] | None", self._array(key, "a list of whole numbers", int))

    def numbers(self, key: str) -> Sequence[float] | None:
        return cast("Sequence[float] | None", self._array(key, "a list of numbers", int, float))

    def required(self, key: str) -> int:
        """A whole number that must be there."""
        value = self.integer(key)
        if value is None:
            raise SourceError(f"The metadata lack {key}.", where=self.where)
        return value

    def _array(self, key: str, what: str, *kinds: type) -> Items | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, GGUFArray) or value.kind not in kinds:
            raise self._wrong(key, what)
        return value.items

    def _wrong(self, key: str, what: str) -> SourceError:
        return SourceError(f"The metadata's {key} must be {what}.", where=self.where)
