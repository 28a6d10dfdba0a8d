"""h2q bench: the speed of the kernels on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from h2q.cli.options import Json
from h2q.core.errors import UsageError


def bench(
    what: Annotated[str, typer.Argument(help="`kernels`.")] = "kernels",
    mebibytes: Annotated[int, typer.Option(min=1, max=4096, help="Codes to read.")] = 256,
    out: Annotated[Path | None, typer.Option(help="Also write the result here.")] = None,
    json: Json = False,
) -> None:
    """Measure kernels against reading the same memory and against float32 in the same run."""
    from h2q.bench import bench_kernels, write_result
    from h2q.cli.output import emit, progress, table

    if what != "kernels":
        raise UsageError(f"There is no benchmark {what!r}.", fix="Known: kernels.")
    with progress() as listen:
        document = bench_kernels(mebibytes, listen)
    if out is not None:
        write_result(out, document)
    if json:
        emit(document)
        return
    rows = []
    for name, row in document["results"].items():
        words = f"{row['weights_per_second'] / 1e9:7.1f} G weights/s"
        words += f"  {row['bytes_per_second'] / 1e9:6.1f} GB/s"
        words += f"  {row['weights_ratio_to_float32']:6.2f} x float32"
        if "ratio_to_pure_read" in row:
            words += f"  {row['ratio_to_pure_read']:5.2f} x a plain read"
        rows.append((name, words))
    table(f"kernels on {document['machine']['processor']}", rows)
