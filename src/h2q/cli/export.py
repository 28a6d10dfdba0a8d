"""h2q export: a crystal, or its first planes, as a file that other engines run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.options import CrystalPath, Json
from h2q.cli.parameters import Option


def export(
    crystal: CrystalPath,
    gguf: Annotated[Path, Option("--gguf", metavar="FILE", help="The GGUF file to write.")],
    kind: Annotated[
        str, Option("--type", help="Of the matrices: f16, q8_0 or f32; norms stay F32.")
    ] = "f16",
    groups: Annotated[
        int | None,
        Option(help="Refinement groups to take in; 0: the base alone. Without: all."),
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a GGUF file.")] = False,
    json: Json = False,
) -> None:
    """Write a crystal as a GGUF file for llama.cpp and what builds on it."""
    from h2q.cli.output import emit, progress, table
    from h2q.core.units import format_bytes
    from h2q.crystal import crystal_bytes, open_crystal
    from h2q.crystallize.export import export_crystal

    opened = open_crystal(crystal)
    with progress() as listen:
        made = export_crystal(opened, gguf, kind, groups, overwrite, listen)
    taken = len(opened.rank) if groups is None else groups
    size = crystal_bytes(opened, taken)
    if json:
        emit(
            {
                "file": gguf.name,
                "type": made.type,
                "groups": taken,
                "bytes": made.bytes,
                "tensor_bytes": made.tensor_bytes,
                "crystal_bytes": size,
                "wider": list(made.wider),
            }
        )
        return
    rows = [
        ("type", made.type),
        ("refinement groups", f"{taken} of {len(opened.rank)}"),
        ("file", format_bytes(made.bytes)),
        ("the same in the crystal", format_bytes(size)),
    ]
    if made.wider:
        rows.append(("in F16, rows being no whole blocks", ", ".join(made.wider)))
    table(gguf.name, rows)
