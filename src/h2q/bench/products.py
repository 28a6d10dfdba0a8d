"""Products that read a matrix from memory: one token, every path, stacks of planes, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from h2q import kernels
from h2q.bench.materials import Materials, code_bytes, first_rows
from h2q.bench.references import (
    counts,
    dot_limit,
    dots,
    in_words,
    read_limit,
    read_time,
    reads,
)
from h2q.bench.rows import Limit, Row, Target
from h2q.bench.timing import Contestant, Timings, race
from h2q.codec.planes import Activations, Plane

READ = "a pure read of the same codes"
MATVEC_TARGETS = {
    1: Target("value", least=100e9),  # weights/s
    2: Target("ratio", least=0.9),  # of the pure read
}
AVX2_TARGET = Target("value", least=25e9)  # weights/s
STACK_TARGETS = {"2+1": Target("ratio", most=1.8), "2+2": Target("ratio", most=2.0)}
BATCH_TARGETS = {8: Target("ratio", most=2.0)}


def product(
    name: str, inputs: Activations, planes: Sequence[Plane], threads: int, path: str = ""
) -> Contestant:
    """One `matmul_planes`."""
    return Contestant(name, partial(kernels.matmul_planes, inputs, planes), threads, path)


def weights(planes: Sequence[Plane]) -> int:
    """Weights of the matrix that the planes code together."""
    return planes[0].spec.rows * planes[0].spec.cols


def multiply_adds(planes: Sequence[Plane], tokens: int) -> int:
    """Of a product: every plane takes part."""
    return weights(planes) * len(planes) * tokens


def matvec_rows(materials: Materials) -> list[Row]:
    """One token on codes in memory, and on codes in the caches: what decoding alone allows."""
    sizes, rows = materials.sizes, []
    inputs = materials.inputs(sizes.width)
    for bits, plane in ((2, materials.two), (1, materials.one)):
        cached = [
            first_rows(plane, sizes.rows_of(mebibytes) * 2 // bits)
            for mebibytes in sizes.cached_mebibytes
            if mebibytes <= sizes.mebibytes
        ]
        contestants = []
        for threads in counts():
            contestants += [*reads([plane], threads), dots(threads)]
            contestants.append(product(f"memory {threads}", inputs, [plane], threads))
            contestants += [
                product(f"cache {threads} {i}", inputs, [part], threads)
                for i, part in enumerate(cached)
            ]
        timings = race(contestants, sizes.seconds, sizes.sample)
        for threads in counts():
            found = [timings[f"cache {threads} {i}"] for i in range(len(cached))]
            each = [t.best / weights([part]) for t, part in zip(found, cached, strict=True)]
            rows += [
                _matvec_row(timings, plane, bits, threads, min(each)),
                *(
                    _cached_row(timings, f"cache {threads} {i}", part, bits, threads)
                    for i, part in enumerate(cached)
                ),
            ]
    return rows


def _matvec_row(timings: Timings, plane: Plane, bits: int, threads: int, cached: float) -> Row:
    timing = timings[f"memory {threads}"]
    count = weights([plane])
    return Row(
        name=f"matrix-vector K={bits}, {in_words(threads)}",
        path=kernels.path(),
        threads=threads,
        timing=timing,
        value=count / timing.best,
        unit="weights/s",
        ratio=read_time(timings, threads).best / timing.best,
        ratio_to=READ,
        target=MATVEC_TARGETS.get(threads) if bits == 2 else None,
        limits=(
            read_limit(timings, threads),
            dot_limit(timings, count, threads),
            Limit("the same product from the caches", cached * count),
        ),
    )


def _cached_row(timings: Timings, name: str, part: Plane, bits: int, threads: int) -> Row:
    timing, count = timings[name], weights([part])
    limit = dot_limit(timings, count, threads)
    return Row(
        name=f"matrix-vector K={bits} on {part.codes.nbytes / 2**20:g} MiB, {in_words(threads)}",
        path=kernels.path(),
        threads=threads,
        timing=timing,
        value=count / timing.best,
        unit="weights/s",
        ratio=limit.seconds / timing.best,
        ratio_to="bare multiply-adds",
        limits=(limit,),
    )


def path_rows(materials: Materials) -> list[Row]:
    """Every native path on one core."""
    sizes = materials.sizes
    plane = first_rows(materials.two, sizes.rows_of(min(64, sizes.mebibytes)))
    inputs, count = materials.inputs(sizes.width), weights([plane])
    paths = [path for path in kernels.available() if path != "numpy"]
    contestants = reads([plane], 1)
    for path in paths:
        contestants += [product(path, inputs, [plane], 1, path), dots(1, path)]
    timings = race(contestants, sizes.seconds, sizes.sample)
    return [
        Row(
            name=f"matrix-vector K=2 on {path}, 1 thread",
            path=path,
            threads=1,
            timing=timings[path],
            value=count / timings[path].best,
            unit="weights/s",
            ratio=read_time(timings, 1).best / timings[path].best,
            ratio_to=READ,
            target=AVX2_TARGET if path == "avx2" else None,
            limits=(read_limit(timings, 1), dot_limit(timings, count, 1, path)),
        )
        for path in paths
    ]


def stack_rows(materials: Materials) -> list[Row]:
    """Stacked planes against the base plane alone, the same matrix."""
    sizes = materials.sizes
    two, (more, half, last) = materials.two, materials.refinements
    stacks = {
        "2+1": [two, half],
        "2+2": [two, more],
        "1+1": [half, last],
        "2+1+1": [two, half, last],
    }
    inputs, rows = materials.inputs(sizes.width), []
    for threads in counts():
        contestants = [product("2", inputs, [two], threads), dots(threads)]
        contestants += [product(name, inputs, s, threads) for name, s in stacks.items()]
        contestants += reads([two], threads)
        timings = race(contestants, sizes.seconds, sizes.sample)
        for name, stack in stacks.items():
            reading = read_limit(timings, threads)
            share = code_bytes(stack) / code_bytes([two])
            rows.append(
                Row(
                    name=f"stacked {name}, {in_words(threads)}",
                    path=kernels.path(),
                    threads=threads,
                    timing=timings[name],
                    value=weights(stack) / timings[name].best,
                    unit="weights/s",
                    ratio=timings[name].best / timings["2"].best,
                    ratio_to="the time of 2 alone, the same matrix",
                    target=STACK_TARGETS.get(name),
                    limits=(
                        replace(reading, seconds=reading.seconds * share),
                        dot_limit(timings, multiply_adds(stack, 1), threads),
                    ),
                )
            )
    return rows


def batch_rows(materials: Materials) -> list[Row]:
    """Several tokens at once against one token."""
    sizes, rows, plane = materials.sizes, [], materials.two
    inputs = {tokens: materials.inputs(sizes.width, tokens) for tokens in (1, *sizes.batches)}
    for threads in counts():
        contestants = [*reads([plane], threads), dots(threads)]
        contestants += [product(f"{n}", x, [plane], threads) for n, x in inputs.items()]
        timings = race(contestants, sizes.seconds, sizes.sample)
        for tokens in sizes.batches:
            timing, adds = timings[f"{tokens}"], multiply_adds([plane], tokens)
            rows.append(
                Row(
                    name=f"batch of {tokens} tokens K=2, {in_words(threads)}",
                    path=kernels.path(),
                    threads=threads,
                    timing=timing,
                    value=adds / timing.best,
                    unit="multiply-adds/s",
                    ratio=timing.best / timings["1"].best,
                    ratio_to="the time of one token",
                    target=BATCH_TARGETS.get(tokens),
                    limits=(read_limit(timings, threads), dot_limit(timings, adds, threads)),
                )
            )
    return rows
