"""A matrix's planes, looked at once: what an operation needs of them is kept between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h2q.codec.planes import Plane


class PlaneStack:
    """The planes of one matrix, float32 rows once summed. A stack never changes; planes that are
    switched in or out make another one. `handle` belongs to the native operations.
    """

    __slots__ = ("handle", "planes", "rows")

    def __init__(self, planes: Sequence[Plane]) -> None:
        self.planes, self.rows = tuple(planes), planes[0].spec.rows
        self.handle: Any = None
