"""Layers that are read from the disk for every step: dense models larger than the memory they may
have.

A few slots hold one layer each. While one is computed with, the next is read into another slot, so
that a step takes as long as reading its layers or computing with them, whichever is longer. Layer i
always lies in slot i modulo their number, and is bound to it once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.architecture import EMBEDDING, FINAL_NORM, coded, head_name, tensors
from h2q.core.errors import CrystalError, H2QError
from h2q.core.paging import forget_file
from h2q.core.safetensors_header import TensorEntry
from h2q.core.specs import PlaneSpec
from h2q.crystal import Crystal
from h2q.crystal.manifest import shard_name
from h2q.crystal.reader import require_finite
from h2q.engine.arriving import arrivals
from h2q.engine.block import Layer
from h2q.engine.load import PlaneWeights, build_layer, crystal_weights
from h2q.engine.model import Model

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Range:
    """Of a layer in the base shard: bytes from `begin` to `end`."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


def layer_ranges(crystal: Crystal) -> list[Range]:
    """Where the layers lie; each in one piece, as they are written in the order of execution."""
    first, ends, _ = arrivals(crystal)
    return [Range(begin, end) for begin, end in zip([first, *ends], ends, strict=False)]


class LayerStream(Collection[Layer]):
    """The layers of a crystal's base, read in turns into slots from `room` (a function of a size).
    Iterating waits for each; one iteration at a time. Errors of reading come out of it. `seconds`
    were spent waiting, `bytes` were read.
    """

    def __init__(self, crystal: Crystal, slots: int, room: Callable[[int], Bytes]) -> None:
        self._ranges = layer_ranges(crystal)
        size = max(part.size for part in self._ranges)
        self._slots = [room(size) for _ in range(min(slots, len(self._ranges)))]
        self._path = crystal.path / shard_name(0)
        self._file = os.open(self._path, os.O_RDONLY)
        self._scales: list[dict[str, npt.NDArray[np.uint16]]] = []
        self._layers = [self._bound(crystal, index) for index in range(len(self._ranges))]
        self._holds: list[int | None] = [None] * len(self._slots)
        self._next = self._turn = 0
        self._reading = self._closed = False
        self._error: H2QError | None = None
        self.seconds, self.bytes = 0.0, 0
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="layers", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __iter__(self) -> Iterator[Layer]:
        turn = self._begin()
        for index, layer in enumerate(self._layers):
            self._wait(index)
            try:
                yield layer
            finally:
                with self._news:
                    if turn == self._turn:  # else this one was broken off and is only now swept up
                        self._holds[index % len(self._slots)] = None
                        self._news.notify_all()

    def close(self) -> None:
        """Read no more."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.join()
        os.close(self._file)

    def _begin(self) -> int:
        """The first layer is there or comes next, also when the last iteration was broken off. The
        number of this iteration.
        """
        with self._news:
            self._news.wait_for(lambda: not self._reading)
            held = [index for index in self._holds if index is not None]
            if self._next != len(held) or sorted(held) != list(range(len(held))):
                self._holds = [None] * len(self._slots)
                self._next = 0
                self._news.notify_all()
            self._turn += 1
            return self._turn

    def _wait(self, index: int) -> None:
        slot = index % len(self._slots)
        if self._holds[slot] != index:
            began = time.perf_counter()
            with self._news:
                self._news.wait_for(
                    lambda: self._holds[slot] == index or self._error is not None or self._closed
                )
            self.seconds += time.perf_counter() - began
        if self._error is not None:
            raise self._error.at(self._error.where)
        if self._closed:
            raise CrystalError("The model was stopped.", where=self._path.name)

    def _free(self) -> bool:
        return self._holds[self._next % len(self._slots)] is None

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or (self._free() and not self._error))
                if self._closed:
                    return
                index, self._reading = self._next, True
            try:
                self._read(index)
            except H2QError as error:
                with self._news:
                    self._error = error
            with self._news:
                self._reading = False
                if self._error is None:
                    self._holds[index % len(self._slots)] = index
                    self._next = (index + 1) % len(self._layers)
                self._news.notify_all()

    def _read(self, index: int) -> None:
        part, into = self._ranges[index], self._slots[index % len(self._slots)]
        done = 0
        while done < part.size:
            view = memoryview(into)[done : part.size]  # type: ignore[arg-type]
            try:
                count = os.preadv(self._file, [view], part.begin + done)
            except OSError as error:
                raise CrystalError(
                    f"A layer cannot be read: {error.strerror}.", where=self._path.name
                ) from error
            if not count:
                raise CrystalError("The shard became shorter.", where=self._path.name)
            done += count
        for name, scales in self._scales[index].items():
            require_finite(scales, name)
        self.bytes += part.size

    def _bound(self, crystal: Crystal, index: int) -> Layer:
        part, into = self._ranges[index], self._slots[index % len(self._slots)]
        entries = crystal.entries(0)
        shapes = {c.name: c.shape for c in coded(crystal.spec)}
        raws = {t.name: t.shape for t in tensors(crystal.spec) if not t.coded}
        scales: dict[str, npt.NDArray[np.uint16]] = {}
        self._scales.append(scales)

        def place(entry: TensorEntry) -> Bytes:
            return into[entry.begin - part.begin : entry.end - part.begin]

        def planes(name: str) -> tuple[Plane, ...]:
            spec = PlaneSpec(crystal.manifest.bits[name][0], *shapes[name])
            codes = place(entries[f"{name}.codes.0"]).reshape(PanelLayout.of(spec).code_shape)
            scales[name] = place(entries[f"{name}.scales.0"]).view(np.uint16)
            return (Plane(spec, codes, scales[name]),)

        def raw(name: str) -> npt.NDArray[np.float32]:
            values: npt.NDArray[np.float32] = place(entries[name]).view(np.float32)
            return values[: int(np.prod(raws[name]))].reshape(raws[name])

        return build_layer(crystal.spec, PlaneWeights(planes, raw, crystal.rotation_seed), index)


def streamed_model(crystal: Crystal, layers: LayerStream) -> Model:
    """The base planes with layers that are read for every step. Raises CrystalError."""
    spec, weights = crystal.spec, crystal_weights(crystal, 0)
    table = {tensor.name: tensor for tensor in tensors(spec)}
    embedding = weights.embedding(table[EMBEDDING])
    head = weights.head(table[head_name(spec)])
    return Model(spec, embedding, layers, weights.raw(FINAL_NORM), head)


def disk_speed(path: Path, most: int = 64 << 20) -> float:
    """Bytes a second at which a file's begin comes from the disk, not from the system's cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        size = min(os.fstat(handle).st_size, most)
        forget_file(handle, 0, size)
        room = memoryview(bytearray(min(size, 1 << 20)))
        began, done = time.perf_counter(), 0
        while done < size and (count := os.preadv(handle, [room], done)):
            done += count
        return done / max(time.perf_counter() - began, 1e-9)
    finally:
        os.close(handle)
