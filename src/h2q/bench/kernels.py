"""Every speed of the kernels that we claim, each a ratio to something measured in the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h2q import kernels
from h2q.bench.layers import float_rows, input_rows, prefill_rows, small_rows
from h2q.bench.machine import Neighbours, machine
from h2q.bench.materials import Materials, Sizes
from h2q.bench.products import batch_rows, matvec_rows, path_rows, stack_rows
from h2q.bench.references import reference_rows
from h2q.bench.rows import Row
from h2q.core.events import Progress, ProgressListener, silent
from h2q.kernels import references

GROUPS: tuple[Callable[[Materials], list[Row]], ...] = (
    reference_rows,
    matvec_rows,
    path_rows,
    stack_rows,
    batch_rows,
    prefill_rows,
    small_rows,
    input_rows,
    float_rows,
)


def bench_kernels(mebibytes: int = 256, progress: ProgressListener = silent) -> dict[str, Any]:
    """All rows of `h2q bench kernels` on `mebibytes` of codes. Raises KernelError without a native
    kernel path.
    """
    references.require_native()
    neighbours, materials = Neighbours(), Materials(Sizes.of(mebibytes))
    rows: list[Row] = []
    for index, group in enumerate(GROUPS):
        progress(Progress("bench kernels", index, len(GROUPS)))
        rows += group(materials)
    progress(Progress("bench kernels", len(GROUPS), len(GROUPS)))
    return {
        "machine": machine(),
        "paths": [path for path in kernels.available() if path != "numpy"],
        "mebibytes": mebibytes,
        "busy_elsewhere": neighbours.share(),
        "results": {row.name: row.document() for row in rows},
    }
