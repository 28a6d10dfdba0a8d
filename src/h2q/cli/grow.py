"""h2q crystallize: a model goes in, a crystal comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.options import SOURCES, Json, read_text, source_place
from h2q.cli.parameters import Argument, Option


def crystallize(
    source: Annotated[str, Argument(metavar="SOURCE", help=SOURCES)],
    out: Annotated[Path, Option("-o", "--out", help="The crystal's folder.")],
    quality: Annotated[
        float | None,
        Option(help="Share of the original's likelihood to keep, 0 to 1. Default: 0.9."),
    ] = None,
    ratio: Annotated[
        float | None, Option(help="Bytes of the original in float32 over the crystal's.")
    ] = None,
    bits: Annotated[
        float | None, Option(help="Bits per weight, everything included, at most.")
    ] = None,
    size: Annotated[str | None, Option(help="Bytes at most, as 900MB or 1.5GiB.")] = None,
    memory: Annotated[
        str | None, Option(help="Working set while serving, as 2GiB, at most.")
    ] = None,
    best_effort: Annotated[
        bool, Option("--best-effort", help="Keep the best where the quality cannot be held.")
    ] = False,
    seed: Annotated[int, Option(help="Of the rotation and of sampled text.")] = 0,
    calibration: Annotated[
        Path | None, Option(help="Your own text (UTF-8, or .xz) instead of sampled text.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a crystal.")] = False,
    json: Json = False,
) -> None:
    """Grow a crystal from a model and measure it."""
    from h2q.cli.certificate import show_certificate
    from h2q.cli.output import emit, progress
    from h2q.core.units import parse_bytes
    from h2q.crystal.writer import require_place
    from h2q.crystallize import ModelCrystallizationEngine, Options
    from h2q.sources import open_source

    options = Options(
        quality=quality,
        ratio=ratio,
        bits=bits,
        size=None if size is None else parse_bytes(size),
        memory=None if memory is None else parse_bytes(memory),
        best_effort=best_effort,
        seed=seed,
        calibration=read_text(calibration) if calibration else None,
    )
    require_place(out, overwrite)  # before anything is fetched
    with progress() as listen:
        engine = ModelCrystallizationEngine(open_source(source_place(source), listen), options)
        certificate = engine.grow(out, overwrite=overwrite, progress=listen)
    if json:
        emit(certificate)
    else:
        show_certificate(certificate)
