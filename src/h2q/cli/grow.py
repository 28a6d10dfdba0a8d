"""h2q crystallize: a model goes in, a crystal comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from h2q.cli.options import Json, read_text, source_path


def crystallize(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A model's folder, a .gguf file, or `seed`."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The crystal's folder.")],
    ratio: Annotated[
        float, typer.Option(help="Bytes of the original in float32 over the crystal's, at least.")
    ] = 12.5,
    seed: Annotated[int, typer.Option(help="Of the rotation and of sampled text.")] = 0,
    calibration: Annotated[
        Path | None, typer.Option(help="Your own text (UTF-8, or .xz) instead of sampled text.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a crystal.")] = False,
    json: Json = False,
) -> None:
    """Grow a crystal from a model and measure it."""
    from h2q.cli.certificate import show_certificate
    from h2q.cli.output import emit, progress
    from h2q.crystallize import ModelCrystallizationEngine, Options
    from h2q.sources import open_source

    text = read_text(calibration) if calibration else None
    engine = ModelCrystallizationEngine(
        open_source(source_path(source)), Options(ratio=ratio, seed=seed, calibration=text)
    )
    with progress() as listen:
        certificate = engine.grow(out, overwrite=overwrite, progress=listen)
    if json:
        emit(certificate)
    else:
        show_certificate(certificate)
