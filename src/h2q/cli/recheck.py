"""h2q verify --quality: the certificate against a new measurement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2q.cli.options import source_place
from h2q.cli.output import progress, table
from h2q.core.errors import CrystalError, QualityError
from h2q.core.safetensors_header import read_json

if TYPE_CHECKING:
    from h2q.crystallize.recheck import Figure, Recheck

CERTIFICATE_LIMIT = 64 << 20
MOST_NAMED = 4  # figures in an error message


def recheck_quality(crystal: Path, against: str, quiet: bool) -> dict[str, Any]:
    """Measure again, show the comparison unless `quiet`, return it as a document.

    Raises QualityError with the first figures that differ by more than their tolerance.
    """
    from h2q.crystal import open_crystal
    from h2q.crystallize.recheck import recheck
    from h2q.sources import open_source

    stated = read_json(crystal / "certificate.json", CERTIFICATE_LIMIT, CrystalError)
    with progress() as listen:
        result = recheck(
            open_crystal(crystal), stated, open_source(source_place(against), listen), listen
        )
    if not quiet:
        table("certificate and new measurement", _summary(result))
        table("text", [("measured on", _text(result))])
    if result.wrong:
        named = "; ".join(_words(figure) for figure in result.wrong[:MOST_NAMED])
        raise QualityError(
            f"{len(result.wrong)} of {len(result.figures)} figures of the certificate differ by "
            f"more than their tolerance: {named}. The text was {_text(result)}.",
            where=crystal.name,
            fix="The certificate was changed, or --against is not the original it was grown from.",
        )
    return {
        "same_text": result.same_text,
        "figures": [figure.to_json() for figure in result.figures],
        "prefixes": [comparison.to_json() for comparison in result.measured],
    }


def _text(result: Recheck) -> str:
    if result.same_text is None:
        return "sampled again; the certificate states no hash to compare with"
    if result.same_text:
        return "the certificate's, token for token"
    return "another sample than the certificate's, so tolerances are about three standard errors"


def _words(figure: Figure) -> str:
    return f"{figure.where}, {figure.name}: {figure.stated:.7g} stated, {figure.found:.7g} found"


def _summary(result: Recheck) -> list[tuple[str, str]]:
    """A line per prefix with the two figures that matter, then every figure that differs."""
    rows = []
    for where in dict.fromkeys(figure.where for figure in result.figures):
        here = [figure for figure in result.figures if figure.where == where]
        right = sum(figure.ok for figure in here)
        named = [f for f in here if f.name in ("quality", "kl_mean")]
        words = "".join(f"   {f.name} {f.stated:.4f} stated, {f.found:.4f} found" for f in named)
        rows.append((where, f"{right} of {len(here)} figures agree{words}"))
    return [*rows, *(("differs", _words(figure)) for figure in result.wrong)]
