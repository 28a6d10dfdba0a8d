"""h2q show and h2q verify: what a crystal is, and whether it is whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from h2q.cli.options import SOURCES, CrystalPath, Json
from h2q.cli.parameters import Option
from h2q.core.errors import CrystalError, UsageError

if TYPE_CHECKING:
    from h2q.crystal import Check


def show(
    crystal: CrystalPath,
    certificate: Annotated[
        bool, Option("--certificate", help="All of the certificate, nothing else.")
    ] = False,
    html: Annotated[Path | None, Option(help="Write the certificate as a page with plots.")] = None,
    json: Json = False,
) -> None:
    """Show a crystal's model, planes, sizes and certificate."""
    from h2q.cli.certificate import show_certificate, show_details, write_html
    from h2q.cli.output import emit, table
    from h2q.core.architecture import tensors
    from h2q.core.files import plain_file
    from h2q.core.safetensors_header import read_json
    from h2q.core.units import format_bytes, format_count
    from h2q.crystal import crystal_bytes, open_crystal

    opened = open_crystal(crystal)
    stated = read_json(crystal / "certificate.json", 64 << 20, CrystalError)
    spec = opened.spec
    with plain_file(opened.tokenizer_path, CrystalError) as (_, words):
        pass  # its size is all that is shown
    if html is not None:
        write_html(html, stated, crystal.resolve().name)
    if json:
        emit(
            {
                "model": spec.to_json(),
                "rotation_seed": opened.rotation_seed,
                "planes": {name: list(bits) for name, bits in opened.manifest.bits.items()},
                "files": {file.name: file.bytes for file in opened.manifest.files},
                "crystal_bytes": crystal_bytes(opened),
                "tokenizer_bytes": words,
                "certificate": stated,
            }
        )
        return
    if certificate:
        show_certificate(stated)
        show_details(stated)
        return
    table(
        crystal.name,
        [
            ("family", spec.family),
            ("parameters", format_count(sum(math.prod(t.shape) for t in tensors(spec)))),
            ("layers", str(spec.num_hidden_layers)),
            ("width", f"{spec.hidden_size}, inner {spec.intermediate_size}"),
            ("heads", f"{spec.num_attention_heads}, {spec.num_key_value_heads} shared"),
            ("context", f"{spec.max_position_embeddings:,} tokens"),
            *((file.name, format_bytes(file.bytes)) for file in opened.manifest.files),
            ("crystal", format_bytes(crystal_bytes(opened))),
            ("tokenizer", format_bytes(words)),
        ],
    )
    show_certificate(stated)


def verify(
    crystal: CrystalPath,
    quality: Annotated[
        bool,
        Option(
            "--quality",
            help="Measure every prefix again and compare with the certificate; needs --against.",
        ),
    ] = False,
    against: Annotated[
        str | None, Option(metavar="SOURCE", help=f"The original model. {SOURCES}")
    ] = None,
    json: Json = False,
) -> None:
    """Check every checksum and invariant of a crystal, and on wish its certificate."""
    from h2q.cli.output import emit, table
    from h2q.crystal import verify_crystal

    if quality and against is None:
        raise UsageError(
            "--quality measures against the original.", fix="Name it with --against SOURCE."
        )
    if against is not None and not quality:
        raise UsageError("--against is for --quality.", fix="Add --quality.")
    checks = verify_crystal(crystal)
    if checks[0].ok:
        checks.append(_fit(crystal))
    bad = [check for check in checks if not check.ok]
    if not json:
        table(crystal.name, [(c.name, "ok" if c.ok else c.detail) for c in checks])
    if bad:
        raise CrystalError(
            f"{len(bad)} of {len(checks)} checks failed, first {bad[0].name}: {bad[0].detail}",
            where=crystal.name,
        )
    document: dict[str, Any] = {"ok": True, "checks": [check.name for check in checks]}
    if against is not None:
        from h2q.cli.recheck import recheck_quality

        document["quality"] = recheck_quality(crystal, against, quiet=json)
    if json:
        emit(document)


def _fit(crystal: Path) -> Check:
    """Whether the tokenizer reads, and gives no token that the model has no row for."""
    from h2q.core.errors import H2QError
    from h2q.crystal import Check
    from h2q.crystal.manifest import read_manifest
    from h2q.text import Tokenizer

    try:
        size = read_manifest(crystal).spec.vocab_size
        Tokenizer(crystal / "tokenizer.json").require_fit(size)
    except H2QError as error:
        return Check("tokenizer fits", False, str(error))
    return Check("tokenizer fits", True)
