"""One layer's keys and values as pages of 64 positions, and the NumPy reference of rounding them.

A page belongs to no stream and to no place in one: who reads it in which order is the cache's own
matter. Everything of a page lies under its index in the first axis of every array, so that pages
are copied, moved and saved by that axis alone. The order within a page is the one that products
read without shuffling: pairs of dimensions for keys, pairs of positions for values, positions or
dimensions side by side after them.

    kind   keys                                    values
    k8v8   int8 (pages, kv, dims / 2, 64, 2)       int8 (pages, kv, 32, width, 2)
    k8v4   int8 (pages, kv, dims / 2, 64, 2)       uint8 (pages, kv, 32, width): code + 8 of the
                                                   even position in the low half
    f16    float16 (pages, kv, dims, 64)           float16 (pages, kv, 64, width)

dims is key_dim, made even by a zero; width is value_dim rounded up to 16. Rounded keys and values
are rotated first (h2q.geometry.rotation): no dimension is much louder than the others then. Each
row of each head is rounded by its largest size / 127, or / 7 in four bits, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from h2q.codec.activations import SILENCE
from h2q.core.errors import KernelError, UsageError
from h2q.geometry.rotation import Rotation, rotate, rotation, unrotate

PAGE: Final = 64
KINDS: Final = ("k8v8", "k8v4", "f16")
ROTATION_SEED: Final = 2
WIDTH_STEP: Final = 16
KEY_LIMIT: Final = 127
VALUE_LIMITS: Final = {"k8v8": 127, "k8v4": 7}
MOST_DIMENSIONS: Final = 2048  # sums of 13-bit queries times keys stay below 2^31
HALF_LIMIT: Final = np.float32(65504)  # the largest float16; louder keys and values are clipped

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pages:
    """The store of one layer. key_scales and value_scales are float32 (pages, kv, 64), or None for
    f16. `handles` belongs to the native operations.
    """

    kind: str
    key_dim: int
    value_dim: int
    keys: npt.NDArray[np.int8] | npt.NDArray[np.float16]
    values: npt.NDArray[np.int8] | npt.NDArray[np.uint8] | npt.NDArray[np.float16]
    key_scales: FloatArray | None
    value_scales: FloatArray | None
    handles: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def allocate(
        cls,
        pages: int,
        kv_heads: int,
        key_dim: int,
        value_dim: int,
        kind: str = "k8v8",
        zeros: Callable[..., npt.NDArray[Any]] = np.zeros,
    ) -> Pages:
        """Empty pages; zeros(shape, dtype) makes their arrays. Raises UsageError for a kind that
        does not exist, or a size out of range.
        """
        if kind not in KINDS:
            raise UsageError(
                f"There is no cache of the kind {kind!r}.", fix=f"Choose one of {', '.join(KINDS)}."
            )
        if (
            min(pages, kv_heads, key_dim, value_dim) < 1
            or max(key_dim, value_dim) > MOST_DIMENSIONS
        ):
            raise UsageError(
                f"Pages of {kv_heads} heads of {key_dim} and {value_dim} dimensions cannot be "
                f"made: all of it is at least 1, dimensions are at most {MOST_DIMENSIONS}."
            )
        head, width = (pages, kv_heads), -(-value_dim // WIDTH_STEP) * WIDTH_STEP
        if kind == "f16":
            keys = zeros((*head, key_dim, PAGE), np.float16)
            halves = zeros((*head, PAGE, width), np.float16)
            return cls(kind, key_dim, value_dim, keys, halves, None, None)
        rounded = zeros((*head, -(-key_dim // 2), PAGE, 2), np.int8)
        values: npt.NDArray[np.int8] | npt.NDArray[np.uint8]
        if kind == "k8v8":
            values = zeros((*head, PAGE // 2, width, 2), np.int8)
        else:
            values = zeros((*head, PAGE // 2, width), np.uint8)
        scales = (zeros((*head, PAGE), np.float32) for _ in range(2))
        return cls(kind, key_dim, value_dim, rounded, values, *scales)

    @property
    def count(self) -> int:
        return int(self.keys.shape[0])

    @property
    def kv_heads(self) -> int:
        return int(self.keys.shape[1])

    @property
    def arrays(self) -> tuple[npt.NDArray[np.generic], ...]:
        """All there is, page by page along the first axis: to copy, to grow, to save."""
        found = (self.keys, self.values, self.key_scales, self.value_scales)
        return tuple(array for array in found if array is not None)

    @property
    def byte_count(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    @property
    def key_turn(self) -> Rotation:
        return rotation(ROTATION_SEED, self.key_dim)

    @property
    def value_turn(self) -> Rotation:
        return rotation(ROTATION_SEED, self.value_dim)


def round_rows(x: FloatArray, limit: int) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """x float32 (..., n) as codes within +-limit, int32 (..., n), and scales float32 (...): x is
    about codes * scales. Rows that are silent (codec.activations) become zero.
    """
    loudest = np.max(np.abs(x), axis=-1, initial=0.0).astype(np.float32)
    quiet = loudest < SILENCE
    inverse = np.float32(limit) / np.where(quiet, np.float32(1), loudest)
    codes = np.where(quiet[..., None], np.float32(0), np.rint(x * inverse[..., None]))
    scales = np.where(quiet, np.float32(0), loudest / np.float32(limit)).astype(np.float32)
    return codes.astype(np.int32), scales


def turned(x: FloatArray, turn: Rotation) -> FloatArray:
    """R x of every row: float32 (rows, heads, n) to the same."""
    return rotate(x.reshape(-1, turn.width), turn).reshape(x.shape)


def require_slots(pages: Pages, slots: npt.NDArray[np.int64]) -> None:
    """Raises KernelError for a slot that the pages do not have."""
    if slots.size and not 0 <= slots.min() <= slots.max() < pages.count * PAGE:
        raise KernelError(f"A slot lies outside the {pages.count:,} pages.")


def require_finite(*arrays: FloatArray) -> None:
    """Raises KernelError where a query, key or value is not a finite number."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise KernelError("The queries, keys or values contain a value that is not finite.")


def store_pages(pages: Pages, k: FloatArray, v: FloatArray, slots: npt.NDArray[np.int64]) -> None:
    """Write keys float32 (rows, kv_heads, key_dim) and values (rows, kv_heads, value_dim) of one
    position each into slots int64 (rows,) = page * 64 + offset; of equal slots the last one stays.
    Raises KernelError for a slot outside, or for a value that is not finite.
    """
    require_slots(pages, slots)
    require_finite(k, v)
    if not len(slots):
        return
    page, offset = slots // PAGE, slots % PAGE
    if pages.key_scales is None or pages.value_scales is None:
        pages.keys[page, :, :, offset] = np.clip(k, -HALF_LIMIT, HALF_LIMIT)
        pages.values[page, :, offset, : pages.value_dim] = np.clip(v, -HALF_LIMIT, HALF_LIMIT)
        return
    codes, scales = round_rows(turned(k, pages.key_turn), KEY_LIMIT)
    require_finite(scales)
    if pages.key_dim % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    pages.keys[page, :, :, offset] = codes.reshape(*codes.shape[:2], -1, 2)
    pages.key_scales[page, :, offset] = scales
    codes, scales = round_rows(turned(v, pages.value_turn), VALUE_LIMITS[pages.kind])
    require_finite(scales)
    pages.value_scales[page, :, offset] = scales
    if pages.kind == "k8v8":
        pages.values[page, :, offset // 2, : pages.value_dim, offset % 2] = codes
        return
    for row, (at, half) in enumerate(zip(page, offset, strict=True)):
        there = pages.values[at, :, half // 2, : pages.value_dim]
        shift = half % 2 * 4
        there[...] = there & (0xF0 >> shift) | (codes[row] + 8) << shift


def read_pages(pages: Pages, slots: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """What is kept in slots int64 (rows,): keys float32 (rows, kv_heads, key_dim) and values (rows,
    kv_heads, value_dim), rotated back.
    """
    require_slots(pages, slots)
    page, offset = slots // PAGE, slots % PAGE
    keys = key_codes(pages, page)[np.arange(len(slots)), :, :, offset]
    values = value_codes(pages, page)[np.arange(len(slots)), :, offset]
    if pages.key_scales is None or pages.value_scales is None:
        return keys, values
    keys = keys * pages.key_scales[page, :, offset][..., None]
    values = values * pages.value_scales[page, :, offset][..., None]
    return (
        unrotate(keys.reshape(-1, pages.key_dim), pages.key_turn).reshape(keys.shape),
        unrotate(values.reshape(-1, pages.value_dim), pages.value_turn).reshape(values.shape),
    )


def key_codes(pages: Pages, page: npt.NDArray[np.integer]) -> FloatArray:
    """Keys of some pages as they are kept, without their scales: float32 (n, kv, key_dim, 64)."""
    keys = pages.keys[page].astype(np.float32)
    if pages.kind != "f16":
        keys = keys.transpose(0, 1, 2, 4, 3).reshape(*keys.shape[:2], -1, PAGE)
    return np.asarray(keys[:, :, : pages.key_dim])


def value_codes(pages: Pages, page: npt.NDArray[np.integer]) -> FloatArray:
    """Values of some pages as they are kept, without scales: float32 (n, kv, 64, value_dim)."""
    values = pages.values[page]
    if pages.kind == "k8v4":
        values = np.stack([values & 15, values >> 4], axis=-1).astype(np.int8) - np.int8(8)
    if pages.kind != "f16":
        values = values.transpose(0, 1, 2, 4, 3).reshape(*values.shape[:2], PAGE, -1)
    return np.asarray(values[..., : pages.value_dim], np.float32)
