"""A crystal's network that answers while its base still arrives: a token that reaches a layer waits
until the layer is there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from h2q.core.architecture import EMBEDDING, FINAL_NORM, HEAD, head_name, tensors
from h2q.core.errors import H2QError
from h2q.crystal import Crystal
from h2q.engine.block import Layer
from h2q.engine.load import build_layer, crystal_weights
from h2q.engine.model import Model
from h2q.engine.projections import DenseProjection, FloatArray


class ArrivingLayers(Sequence[Layer]):
    """Layers that are waited for. Who waits is told when one cannot come."""

    def __init__(self, count: int) -> None:
        self._layers: list[Layer | None] = [None] * count
        self._left = count
        self._error: H2QError | None = None
        self._news = threading.Condition()

    def put(self, index: int, layer: Layer) -> None:
        with self._news:
            self._layers[index] = layer
            self._left -= 1
            self._news.notify_all()

    def fail(self, error: H2QError) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> list[Layer]: ...

    def __getitem__(self, index: int | slice) -> Layer | list[Layer]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        layer = self._layers[index]
        if layer is None:
            with self._news:
                self._news.wait_for(lambda: self._layers[index] or self._error)
            layer = self._layers[index]
        if layer is None:
            assert self._error is not None
            raise self._error.at(self._error.where)
        return layer

    def __iter__(self) -> Iterator[Layer]:
        return (self[index] for index in range(len(self)))


class ArrivingModel(Model):
    """The base planes of a crystal: the embedding at once, everything else when `bind_layer` and
    `bind_tail` were called, by another thread, or `fail`.
    """

    def __init__(self, crystal: Crystal) -> None:
        spec = crystal.spec
        self._weights = crystal_weights(crystal, 0)
        self._tensors = {tensor.name: tensor for tensor in tensors(spec)}
        embedding = self._weights.embedding(self._tensors[EMBEDDING])
        self._arriving = ArrivingLayers(spec.num_hidden_layers)
        self._tail = threading.Event()
        self._error: H2QError | None = None
        norm, head = np.zeros(0, np.float32), DenseProjection((), ())
        super().__init__(spec, embedding, self._arriving, norm, head)

    def logits(self, x: FloatArray) -> FloatArray:
        """See Model; waits for the head."""
        if not self._tail.is_set():
            self._tail.wait()
        if self._error is not None:
            raise self._error.at(self._error.where)
        return super().logits(x)

    def bind_layer(self, index: int) -> None:
        """Let a layer be used. Raises CrystalError."""
        self._arriving.put(index, build_layer(self.spec, self._weights, index))

    def bind_tail(self) -> None:
        """Let norm and head be used, the last that was missing. Raises CrystalError."""
        self.norm = self._weights.raw(FINAL_NORM)
        self.head = self._weights.head(self._tensors[head_name(self.spec)])
        self.layers = list(self._arriving)
        self._tail.set()

    def fail(self, error: H2QError) -> None:
        """Nothing more will come."""
        self._error = error
        self._arriving.fail(error)
        self._tail.set()


def arrivals(crystal: Crystal) -> tuple[int, list[int], int]:
    """Bytes of the base shard up to the end of the embedding, of each layer, and of the head with
    all before it.
    """
    ends = [0] * crystal.spec.num_hidden_layers
    first, last = 0, 0
    for name, entry in crystal.entries(0).items():
        last = max(last, entry.end)
        if name.startswith("model.layers."):
            layer = int(name.split(".")[2])
            ends[layer] = max(ends[layer], entry.end)
        elif not name.startswith((FINAL_NORM, HEAD)):
            first = max(first, entry.end)
    return first, ends, last
