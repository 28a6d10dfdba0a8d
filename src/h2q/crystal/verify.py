"""Every checksum and invariant of a crystal, one check after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h2q.codec.planes import from_bfloat16
from h2q.core.architecture import tensors
from h2q.core.disk import file_hash
from h2q.core.errors import CrystalError, H2QError
from h2q.core.safetensors_header import read_json
from h2q.crystal.manifest import Manifest, read_manifest, shard_name
from h2q.crystal.reader import DAMAGED, Crystal
from h2q.crystal.stamp import states, write_stamp

CERTIFICATE_LIMIT = 64 << 20
TOKENIZER_LIMIT = 256 << 20


@dataclass(frozen=True)
class Check:
    """A named check; `detail` says what was found when it is not `ok`."""

    name: str
    ok: bool
    detail: str = ""


def verify_crystal(path: Path) -> list[Check]:
    """Run every check that can still be run; a damaged crystal.json ends the list."""
    checks: list[Check] = []

    def check(name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except H2QError as error:
            checks.append(Check(name, False, str(error)))
        else:
            checks.append(Check(name, True))

    check("crystal.json", lambda: read_manifest(path))
    if not checks[0].ok:
        return checks
    manifest = read_manifest(path)
    crystal = Crystal(path, manifest)
    present = [path / file.name for file in manifest.files if (path / file.name).is_file()]
    before = states(present)
    for index in range(len(manifest.files)):
        check(f"{shard_name(index)}: checksum", lambda i=index: _checksum(path, manifest, i))  # type: ignore[misc]
        check(f"{shard_name(index)}: header", lambda i=index: crystal.entries(i))  # type: ignore[misc]
    if all(result.ok for result in checks):
        write_stamp(path, before)
    check("planes", lambda: _planes(crystal))
    check("norms", lambda: _norms(crystal))
    check("nothing besides", lambda: _names(crystal))
    check(
        "certificate.json",
        lambda: read_json(path / "certificate.json", CERTIFICATE_LIMIT, CrystalError),
    )
    check(
        "tokenizer.json", lambda: read_json(path / "tokenizer.json", TOKENIZER_LIMIT, CrystalError)
    )
    check("chat_template.jinja", crystal.chat_template)
    return checks


def _checksum(path: Path, manifest: Manifest, index: int) -> None:
    entry = manifest.files[index]
    file = path / entry.name
    if not file.is_file():
        raise CrystalError("A shard is missing.", where=entry.name, fix=DAMAGED)
    if file.stat().st_size != entry.bytes or file_hash(file) != entry.sha256:
        raise CrystalError("The size or checksum is wrong.", where=entry.name, fix=DAMAGED)


def _planes(crystal: Crystal) -> None:
    for name in crystal.manifest.bits:
        for plane in crystal.planes(name):
            scales = from_bfloat16(plane.scales)
            if not np.isfinite(scales).all() or scales[plane.spec.rows :].any():
                raise CrystalError(
                    "Row scales are not finite or not padded with zeros.", where=name
                )


def _norms(crystal: Crystal) -> None:
    for tensor in tensors(crystal.spec):
        if not tensor.coded and not np.isfinite(crystal.raw(tensor.name)).all():
            raise CrystalError("A norm is not finite.", where=tensor.name)


def _names(crystal: Crystal) -> None:
    """Every stored tensor is one that crystal.json accounts for."""
    raw = {tensor.name for tensor in tensors(crystal.spec) if not tensor.coded}
    for shard in range(1 + len(crystal.rank)):
        group = () if shard == 0 else crystal.rank[shard - 1]
        planes = group if shard else [(name, 0) for name in crystal.manifest.bits]
        known = {f"{n}.{kind}.{i}" for n, i in planes for kind in ("codes", "scales")}
        extra = [n for n in crystal.entries(shard) if n not in known]
        if shard == 0:
            extra = [n for n in extra if n not in raw]
        if extra:
            raise CrystalError(f"Unknown tensor {extra[0]}.", where=shard_name(shard))
