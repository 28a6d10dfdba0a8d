"""Layers that lie in the caches: long inputs, small layers, what surrounds a product, float32."""

from __future__ import annotations

from functools import partial

import numpy as np

from h2q import kernels
from h2q.bench.materials import Materials
from h2q.bench.products import multiply_adds, product
from h2q.bench.references import counts, dot_limit, dots, in_words
from h2q.bench.rows import Limit, Row, Target
from h2q.bench.timing import Contestant, race
from h2q.codec.planes import Plane
from h2q.geometry.rotation import rotation
from h2q.kernels import references

PREFILL_TARGET = Target("value", least=600e9)  # multiply-adds/s


def prefill_rows(materials: Materials) -> list[Row]:
    """Long inputs on a layer, both ways round."""
    sizes, rows = materials.sizes, []
    shapes = (sizes.prefill, sizes.prefill[::-1])
    layers = [materials.plane(2, *shape) for shape in shapes]
    for threads in counts():
        contestants = [dots(threads)]
        for tokens in sizes.prefill_tokens:
            contestants += [
                product(_shape(p, tokens), materials.inputs(p.spec.cols, tokens), [p], threads)
                for p in layers
            ]
        timings = race(contestants, sizes.seconds, sizes.sample)
        for tokens in sizes.prefill_tokens:
            for plane in layers:
                timing, adds = timings[_shape(plane, tokens)], multiply_adds([plane], tokens)
                limit = dot_limit(timings, adds, threads)
                rows.append(
                    Row(
                        name=f"prefill {_shape(plane, tokens)} K=2, {in_words(threads)}",
                        path=kernels.path(),
                        threads=threads,
                        timing=timing,
                        value=adds / timing.best,
                        unit="multiply-adds/s",
                        ratio=limit.seconds / timing.best,
                        ratio_to="bare multiply-adds",
                        target=PREFILL_TARGET if threads == 2 else None,
                        limits=(limit,),
                    )
                )
    return rows


def small_rows(materials: Materials) -> list[Row]:
    """Layers so small that waking threads and the way through Python weigh."""
    sizes, rows = materials.sizes, []
    least = materials.plane(2, 16, 4)
    least_inputs = materials.inputs(4)
    for shape in (sizes.small, sizes.small[::-1]):
        plane, inputs = materials.plane(2, *shape), materials.inputs(shape[1])
        contestants = [product("call", least_inputs, [least], 1)]
        for threads in counts():
            contestants.append(product(f"{threads}", inputs, [plane], threads))
            contestants.append(
                Contestant(f"job {threads}", partial(references.synchronise, 1, False), threads)
            )
        timings = race(contestants, sizes.seconds / 2, sizes.sample)
        for threads in counts():
            timing = timings[f"{threads}"]
            rows.append(
                Row(
                    name=f"small layer {shape[0]} x {shape[1]} K=2, {in_words(threads)}",
                    path=kernels.path(),
                    threads=threads,
                    timing=timing,
                    value=timing.best,
                    unit="s",
                    ratio=timing.best / timings["1"].best,
                    ratio_to="the time on 1 thread",
                    limits=(
                        Limit("the call of a 16 x 4 layer", timings["call"].best),
                        Limit("an empty job through Python", timings[f"job {threads}"].best),
                    ),
                )
            )
    return rows


def input_rows(materials: Materials) -> list[Row]:
    """Rotating and rounding inputs against copying them; embedding rows against float32 ones."""
    sizes, rows = materials.sizes, []
    tokens = sizes.prefill_tokens[0]
    copies = {width: materials.floats(tokens, width) for width in sizes.prefill}
    targets = {width: np.empty_like(x) for width, x in copies.items()}
    shape = sizes.embedding
    embedding, wide = materials.plane(2, *shape), materials.floats(*shape)
    ids = materials.draw.integers(0, shape[0], sizes.gathered)
    for threads in counts():
        contestants = []
        for width, x in copies.items():
            turn, target = rotation(0, width), targets[width]
            contestants += [
                Contestant(
                    f"rotate {width}",
                    partial(kernels.rotate_quantize, x, turn),
                    threads,
                ),
                Contestant(f"copy {width}", partial(np.copyto, target, x), threads),
            ]
        contestants += [
            Contestant("gather", partial(kernels.gather_rows, [embedding], ids), threads),
            Contestant("take", partial(np.take, wide, ids, 0), threads),
        ]
        timings = race(contestants, sizes.seconds / 2, sizes.sample)
        for width in copies:
            timing = timings[f"rotate {width}"]
            rows.append(
                Row(
                    name=f"rotate and round {tokens} x {width}, {in_words(threads)}",
                    path=kernels.path(),
                    threads=threads,
                    timing=timing,
                    value=tokens / timing.best,
                    unit="tokens/s",
                    ratio=timings[f"copy {width}"].best / timing.best,
                    ratio_to="NumPy's copy of the same inputs, 1 thread",
                )
            )
        rows.append(
            Row(
                name=f"gather {sizes.gathered} of {shape[0]} x {shape[1]}, {in_words(threads)}",
                path=kernels.path(),
                threads=threads,
                timing=timings["gather"],
                value=sizes.gathered / timings["gather"].best,
                unit="rows/s",
                ratio=timings["take"].best / timings["gather"].best,
                ratio_to="NumPy's gathering of float32 rows, 1 thread",
            )
        )
    return rows


def float_rows(materials: Materials) -> list[Row]:
    """What float32 costs on the same machine, and the same matrix at two bits beside it."""
    sizes, rows = materials.sizes, []
    threads = kernels.threads()
    for shape, tokens in ((sizes.dense, 1), (sizes.prefill, sizes.prefill_tokens[0])):
        plane, dense = materials.plane(2, *shape), materials.floats(*shape)
        x = materials.floats(tokens, shape[1])
        inputs = kernels.quantize(x)
        contestants = [
            Contestant("float32", partial(np.matmul, x, dense.T), threads),
            product("planes", inputs, [plane], threads),
        ]
        timings = race(contestants, sizes.seconds / 2, sizes.sample)
        adds = multiply_adds([plane], tokens)
        for what in ("float32", "planes"):
            kind = "float32 BLAS" if what == "float32" else "K=2 beside float32"
            rows.append(
                Row(
                    name=f"{kind} {_shape(plane, tokens)}",
                    path="BLAS" if what == "float32" else kernels.path(),
                    threads=threads,
                    timing=timings[what],
                    value=adds / timings[what].best,
                    unit="multiply-adds/s",
                    ratio=timings["float32"].best / timings[what].best,
                    ratio_to="float32 BLAS",
                )
            )
    return rows


def _shape(plane: Plane, tokens: int) -> str:
    return f"{tokens} x {plane.spec.rows} x {plane.spec.cols}"
