"""Keys and values of the positions seen so far; grows by doubling, never beyond the context of the
model.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec

FloatArray = npt.NDArray[np.float32]
FIRST_CAPACITY = 128


def cache_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """Heads, width of a key, width of a value that a layer keeps per position. Through a latent it
    is one row for all heads, whose first kv_lora_rank entries are the value too.
    """
    if spec.latent is not None:
        return 1, spec.latent.row, spec.latent.kv_lora_rank
    return spec.num_key_value_heads, spec.head_dim, spec.head_dim


class Attending(Protocol):
    """What a block hands its queries, keys and values to, one row per token of whatever streams
    are being run: it keeps the keys and values and knows who sees what.
    """

    def attend(
        self,
        layer: int,
        q: FloatArray,
        k: FloatArray,
        v: FloatArray,
        rule: AttentionRule,
        sinks: FloatArray | None = None,
    ) -> FloatArray:
        """float32 (rows, heads, width of a key), (rows, kv_heads, width of a key), (rows, kv_heads,
        width of a value) to (rows, heads * width of a value).
        """
        ...


class Cache:
    """Per layer two float32 arrays (batch, kv_heads, capacity, width), of a key's width and of a
    value's; all rows of a batch have one length. `layers`: how many, those of the model otherwise.
    """

    def __init__(
        self,
        spec: ModelSpec,
        batch: int = 1,
        capacity: int = FIRST_CAPACITY,
        layers: int | None = None,
    ) -> None:
        self.spec, self.batch, self.length = spec, batch, 0
        self.limit = spec.max_position_embeddings
        heads, keys, values = cache_shape(spec)
        shape = (batch, heads, min(capacity, self.limit))
        count = spec.num_hidden_layers if layers is None else layers
        self.keys = [np.zeros((*shape, keys), np.float32) for _ in range(count)]
        self.values = [np.zeros((*shape, values), np.float32) for _ in range(count)]

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]

    @property
    def byte_count(self) -> int:
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more positions. Raises UsageError beyond the context."""
        needed = self.length + tokens
        if needed > self.limit:
            raise UsageError(
                f"{needed:,} tokens do not fit the model's context of {self.limit:,}.",
                fix="Shorten the prompt or ask for fewer tokens.",
            )
        if needed > self.capacity:
            capacity = min(max(needed, 2 * self.capacity), self.limit)
            self.keys = [self._grown(array, capacity) for array in self.keys]
            self.values = [self._grown(array, capacity) for array in self.values]

    def _grown(self, array: FloatArray, capacity: int) -> FloatArray:
        grown = np.zeros((*array.shape[:2], capacity, array.shape[3]), np.float32)
        grown[:, :, : self.length] = array[:, :, : self.length]
        return grown

    def attend(
        self,
        layer: int,
        q: FloatArray,
        k: FloatArray,
        v: FloatArray,
        rule: AttentionRule,
        sinks: FloatArray | None = None,
    ) -> FloatArray:
        """Append k and v of one layer at the current length and let q look at all there is: float32
        (batch * tokens, heads or kv_heads, width) to (batch * tokens, heads * width of a value).
        """
        q, k, v = (part.reshape(self.batch, -1, *part.shape[1:]) for part in (q, k, v))
        self.store(layer, k, v)
        keys, values = self.keys[layer], self.values[layer]
        mixed = kernels.attention(q, keys, values, self.length, rule, sinks)
        return mixed.reshape(q.shape[0] * q.shape[1], -1)

    def store(self, layer: int, keys: FloatArray, values: FloatArray) -> None:
        """Append float32 (batch, tokens, kv_heads, width) of one layer at the current length."""
        span = slice(self.length, self.length + keys.shape[1])
        self.keys[layer][:, :, span] = keys.transpose(0, 2, 1, 3)
        self.values[layer][:, :, span] = values.transpose(0, 2, 1, 3)
