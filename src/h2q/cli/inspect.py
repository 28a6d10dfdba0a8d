"""h2q show and h2q verify: what a crystal is, and whether it is whole."""

from __future__ import annotations

from h2q.cli.options import CrystalPath, Json
from h2q.core.errors import CrystalError


def show(crystal: CrystalPath, json: Json = False) -> None:
    """Show a crystal's model, planes, sizes and certificate."""
    from h2q.cli.certificate import show_certificate
    from h2q.cli.output import emit, table
    from h2q.core.safetensors_header import read_json
    from h2q.core.units import format_bytes, format_count
    from h2q.crystal import crystal_bytes, open_crystal

    opened = open_crystal(crystal)
    certificate = read_json(crystal / "certificate.json", 64 << 20, CrystalError)
    spec = opened.spec
    if json:
        emit(
            {
                "model": spec.to_json(),
                "rotation_seed": opened.rotation_seed,
                "planes": {name: list(bits) for name, bits in opened.manifest.bits.items()},
                "files": {file.name: file.bytes for file in opened.manifest.files},
                "crystal_bytes": crystal_bytes(opened),
                "tokenizer_bytes": opened.tokenizer_path.stat().st_size,
                "certificate": certificate,
            }
        )
        return
    table(
        crystal.name,
        [
            ("family", spec.family),
            ("parameters", format_count(certificate["original_bytes_fp32"] / 4)),
            ("layers", str(spec.num_hidden_layers)),
            ("width", f"{spec.hidden_size}, inner {spec.intermediate_size}"),
            ("heads", f"{spec.num_attention_heads}, {spec.num_key_value_heads} shared"),
            ("context", f"{spec.max_position_embeddings:,} tokens"),
            *((file.name, format_bytes(file.bytes)) for file in opened.manifest.files),
            ("crystal", format_bytes(crystal_bytes(opened))),
            ("tokenizer", format_bytes(opened.tokenizer_path.stat().st_size)),
        ],
    )
    show_certificate(certificate)


def verify(crystal: CrystalPath, json: Json = False) -> None:
    """Check every checksum and invariant of a crystal."""
    from h2q.cli.output import emit, table
    from h2q.crystal import verify_crystal

    checks = verify_crystal(crystal)
    bad = [check for check in checks if not check.ok]
    if not bad and json:
        emit({"ok": True, "checks": [check.name for check in checks]})
    elif not json:
        table(crystal.name, [(c.name, "ok" if c.ok else c.detail) for c in checks])
    if bad:
        raise CrystalError(
            f"{len(bad)} of {len(checks)} checks failed, first {bad[0].name}: {bad[0].detail}",
            where=crystal.name,
        )
