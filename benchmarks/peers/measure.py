"""Our products against llama.cpp's on the same matrix shapes, inputs and threads, taken in turns in
one process: `make bench-peers`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggml import FOUR_BITS, PATTERN_ROWS, TYPES, Ggml, Product, products
from h2q import kernels
from h2q.bench import machine, slug, write_result
from h2q.bench.machine import Neighbours
from h2q.bench.materials import Materials, Sizes
from h2q.bench.products import multiply_adds, product
from h2q.bench.references import counts, in_words, read_limit, read_time, reads
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Contestant, Timings, race
from h2q.codec.planes import Plane
from h2q.core.errors import H2QError, KernelError

REST = 0.01  # seconds before each sample: threads of both libraries spin a while after their work
SECONDS = 2.0  # of each race
TARGET = Target("ratio", least=3.0)
MOST_ERROR = (
    0.3  # of the peer's product, relative: two bits are coarse, a wrong product is off by 1.4
)


@dataclass(frozen=True)
class Field:
    """One shape: our planes and the inputs of both sides. `pattern` is what the peer quantizes."""

    planes: tuple[Plane, ...]
    x: npt.NDArray[np.float32]
    pattern: npt.NDArray[np.float32]

    @property
    def rows(self) -> int:
        return self.planes[0].spec.rows

    @property
    def adds(self) -> int:
        """Multiply-adds of a product with the first plane alone."""
        return multiply_adds(self.planes[:1], len(self.x))

    @property
    def shape(self) -> str:
        spec = self.planes[0].spec
        return f"{len(self.x)} x {spec.rows} x {spec.cols}"


def field(materials: Materials, planes: tuple[Plane, ...], tokens: int) -> Field:
    """Gaussian weights for the peer and inputs for both."""
    cols = planes[0].spec.cols
    rows = min(PATTERN_ROWS, planes[0].spec.rows)
    return Field(planes, materials.floats(tokens, cols), materials.floats(rows, cols))


def rows_of(ggml: Ggml, name: str, arena: Field, seconds: float) -> Iterator[Row]:
    """All rows of one of the peer's types: theirs, and ours over theirs from the same race."""
    for theirs in products(ggml, name, arena.pattern, arena.rows, arena.x):
        _check(theirs, arena)
        inputs = kernels.quantize(arena.x)
        contestants = []
        for threads in counts():
            contestants += reads(list(arena.planes[:1]), threads)
            contestants += [
                product(
                    f"{'+'.join(str(p.spec.bits) for p in stack)} {threads}", inputs, stack, threads
                )
                for stack in _stacks(arena.planes)
            ]
            work = partial(_on, theirs, threads)
            contestants.append(Contestant(f"peer {threads}", work, threads))
        timings = race(contestants, seconds, 0.0, REST)
        for threads in counts():
            yield _their_row(theirs, arena, timings, threads)
            for stack in _stacks(arena.planes):
                yield _our_row(theirs, arena, stack, timings, threads)


def _stacks(planes: tuple[Plane, ...]) -> list[tuple[Plane, ...]]:
    """The base plane alone, and all planes."""
    return [planes[:1]] if len(planes) == 1 else [planes[:1], planes]


def _bits(stack: tuple[Plane, ...]) -> str:
    return "+".join(str(plane.spec.bits) for plane in stack)


def _on(theirs: Product, threads: int) -> None:
    theirs.use_threads(threads)
    theirs.run()


def _check(theirs: Product, arena: Field) -> None:
    """Raises KernelError where the peer did not compute the product we think it did."""
    _on(theirs, 1)
    found = theirs.result()[:, : len(arena.pattern)]
    expected = arena.x @ arena.pattern.T
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not error < MOST_ERROR:
        raise KernelError(
            f"The peer's product is off by {error:.2f}.", where=f"{theirs.name} {theirs.kind}"
        )


def _their_row(theirs: Product, arena: Field, timings: Timings, threads: int) -> Row:
    timing, reading = timings[f"peer {threads}"], read_time(timings, threads)
    whole = reading.best * theirs.bytes / arena.planes[0].codes.nbytes
    return Row(
        name=f"llama.cpp {theirs.name} in {theirs.kind}, {arena.shape}, {in_words(threads)}",
        path="llama.cpp",
        threads=threads,
        timing=timing,
        value=arena.adds / timing.best,
        unit="multiply-adds/s",
        ratio=whole / timing.best,
        ratio_to="a pure read of as many bytes, as many threads",
    )


def _our_row(
    theirs: Product, arena: Field, stack: tuple[Plane, ...], timings: Timings, threads: int
) -> Row:
    bits = _bits(stack)
    timing = timings[f"{bits} {threads}"]
    return Row(
        name=f"{bits} beside {theirs.name} in {theirs.kind}, {arena.shape}, {in_words(threads)}",
        path=kernels.path(),
        threads=threads,
        timing=timing,
        value=arena.adds / timing.best,
        unit="multiply-adds/s",
        ratio=timings[f"peer {threads}"].best / timing.best,
        ratio_to=f"llama.cpp {theirs.name}",
        limits=(read_limit(timings, threads),) if len(stack) == 1 else (),
    )


def fastest_row(rows: list[Row], shape: str, threads: int, target: Target | None) -> Row:
    """Ours beside the 4-bit type that comes closest to it, each pair taken from its own race: a
    busy neighbour slows both.
    """
    pairs = [
        row
        for row in rows
        if row.name.startswith("2 beside ")
        and row.name.split()[2] in FOUR_BITS
        and shape in row.name
        and row.threads == threads
    ]
    closest = min(pairs, key=lambda row: row.ratio)
    kind = closest.name.removeprefix("2 beside ").partition(",")[0]
    return replace(
        closest,
        name=f"K=2 against the fastest 4-bit type, {shape}, {in_words(threads)}",
        ratio_to=f"llama.cpp {kind}",
        target=target,
    )


def measured(mebibytes: int) -> dict[str, Any]:
    """All rows, as `h2q bench` has them."""
    neighbours, ggml, materials = Neighbours(), Ggml(), Materials(Sizes.of(mebibytes))
    sizes = materials.sizes
    seconds = min(SECONDS, sizes.seconds)
    memory = field(materials, (materials.two, materials.refinements[0]), 1)
    layer = field(materials, (materials.plane(2, *sizes.prefill),), sizes.prefill_tokens[0])
    rows: list[Row] = []
    for arena, names, target in ((memory, tuple(TYPES), TARGET), (layer, FOUR_BITS, None)):
        for name in names:
            print(f"llama.cpp {name}, {arena.shape} ...", file=sys.stderr, flush=True)
            rows += rows_of(ggml, name, arena, seconds)
        rows += [fastest_row(rows, arena.shape, threads, target) for threads in counts()]
    results = {row.name: row.document() for row in rows}
    about = {**machine(), "llama_cpp_python": ggml.version}
    return {
        "machine": about,
        "mebibytes": mebibytes,
        "busy_elsewhere": neighbours.share(),
        "results": results,
    }


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=256, help="our codes; below 64 a trial")
    parser.add_argument("--out", type=Path, help="a file, or a folder such as benchmarks/results")
    options = parser.parse_args()
    try:
        document = measured(options.mebibytes)
        if options.out is not None:
            target = options.out
            target = target / f"peers-{slug()}.json" if target.is_dir() else target
            write_result(target, document)
            print(f"written to {target}", file=sys.stderr)
    except H2QError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for name, row in document["results"].items():
        if name.startswith("K=2 against"):
            print(f"{name}: {row['ratio']:.2f} x {row['ratio_to']}", file=sys.stderr)
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
