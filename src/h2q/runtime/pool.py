"""MemoryPool: what a model promised to stay within, and where its bytes are.

Arenas are ranges of address space of their own; memory is taken where they are first written, and
whole pages go back to the system when a block is given back. Work in between (scratch) lives on the
C library's heap, which is only measured.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.core.errors import ResourceError, UsageError
from h2q.core.paging import PAGE, release, resident
from h2q.core.specs import ModelSpec
from h2q.core.units import format_bytes
from h2q.engine.cache import cache_shape

ALIGNMENT = 64


@dataclass(frozen=True)
class ArenaState:
    """Bytes: of the whole, used now, used at most so far, in memory. fragmentation: the part of
    what is free that the largest free block does not cover.
    """

    name: str
    size: int
    used: int
    high_water: int
    resident: int
    fragmentation: float


@dataclass(frozen=True)
class HeapState:
    """Of the C library's heap, bytes: `used` by somebody, `free` and kept; both 0 where it does not
    tell. fragmentation: the part of all it holds that is free.
    """

    used: int = 0
    free: int = 0

    @property
    def fragmentation(self) -> float:
        return self.free / (self.used + self.free) if self.used + self.free else 0.0


class Arena:
    """Blocks of one range, first fit. Any thread may ask."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, -(-max(size, 1) // PAGE) * PAGE
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared memory would not go back
        self._data = np.frombuffer(mmap.mmap(-1, self.size, private), np.uint8)
        self._address = self._data.ctypes.data
        self._free = [(0, self.size)]
        self._taken: dict[int, int] = {}
        self._high = 0
        self._lock = threading.Lock()

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Zeros. Raises ResourceError when there is no block of that size."""
        kind = np.dtype(dtype)
        count = math.prod(shape) * kind.itemsize
        begin = self._take(max(ALIGNMENT, -(-count // ALIGNMENT) * ALIGNMENT))
        return self._data[begin : begin + count].view(kind).reshape(shape)

    def give(self, array: npt.NDArray[Any]) -> None:
        """Give an array back, whose memory nobody uses any more. Raises UsageError when it is none
        of the arena's.
        """
        begin = array.ctypes.data - self._address
        with self._lock:
            count = self._taken.pop(begin, None)
            if count is None:
                raise UsageError(f"The arena {self.name!r} has not given this array.")
            whole = np.frombuffer(self._data[begin : begin + count], np.uint8)
            edges = (-(-begin // PAGE) * PAGE, (begin + count) // PAGE * PAGE)
            if edges[1] > edges[0]:
                release(self._address + begin, count)
                whole[: edges[0] - begin] = 0
                whole[edges[1] - begin :] = 0
            else:
                whole[:] = 0
            self._join(begin, count)

    def state(self) -> ArenaState:
        with self._lock:
            used = sum(self._taken.values())
            free = [count for _, count in self._free]
        loss = 1 - max(free) / sum(free) if free else 0.0
        held = resident(self._address, self.size)
        return ArenaState(self.name, self.size, used, self._high, held, loss)

    def _take(self, count: int) -> int:
        with self._lock:
            for index, (begin, room) in enumerate(self._free):
                if room < count:
                    continue
                rest = [(begin + count, room - count)] if room > count else []
                self._free[index : index + 1] = rest
                self._taken[begin] = count
                self._high = max(self._high, sum(self._taken.values()))
                return begin
            left = sum(room for _, room in self._free)
        raise ResourceError(
            f"The arena {self.name!r} has no block of {format_bytes(count)}: {format_bytes(left)} "
            f"of {format_bytes(self.size)} are free."
        )

    def _join(self, begin: int, count: int) -> None:
        blocks = sorted([*self._free, (begin, count)])
        joined = blocks[:1]
        for at, room in blocks[1:]:
            last, size = joined[-1]
            if last + size == at:
                joined[-1] = (last, size + room)
            else:
                joined.append((at, room))
        self._free = joined


class MemoryPool:
    """Reservations within `limit` bytes (None: without one), and arenas, each a reservation of its
    own.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.reserved: dict[str, int] = {}
        self.arenas: dict[str, Arena] = {}

    def reserve(self, name: str, count: int) -> None:
        """Count bytes as taken. Raises ResourceError when they do not fit the limit."""
        others = sum(size for other, size in self.reserved.items() if other != name)
        if self.limit is not None and others + count > self.limit:
            raise ResourceError(
                f"{format_bytes(count)} for {name} do not fit: {format_bytes(others)} of "
                f"{format_bytes(self.limit)} are taken.",
                fix="Give the model more memory.",
            )
        self.reserved[name] = count

    def arena(self, name: str, size: int) -> Arena:
        """A new arena. Raises ResourceError when it does not fit, UsageError when there is one of
        that name.
        """
        if name in self.arenas:
            raise UsageError(f"There is an arena {name!r} already.")
        self.reserve(name, size)
        return self.arenas.setdefault(name, Arena(name, size))

    @property
    def free(self) -> int | None:
        """Bytes of the limit that nobody reserved."""
        return None if self.limit is None else self.limit - sum(self.reserved.values())

    def state(self) -> list[ArenaState]:
        return [arena.state() for arena in self.arenas.values()]


class _MallInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def heap() -> HeapState:
    """What work in between holds now."""
    try:
        ask = ctypes.CDLL(None).mallinfo2  # glibc 2.33
    except (OSError, AttributeError):
        return HeapState()
    ask.restype = _MallInfo
    told = ask()
    return HeapState(told.uordblks + told.hblkhd, told.fordblks)


def page_bytes(spec: ModelSpec, kind: str) -> int:
    """Of one page of the cache in all layers, with what allocating it may add."""
    heads, keys, values = cache_shape(spec)
    return spec.num_hidden_layers * Pages.allocate(1, heads, keys, values, kind).byte_count
