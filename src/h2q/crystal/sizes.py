"""How many bytes a crystal will have, to the byte, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from h2q.core.architecture import coded, parts, tensors
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.crystal.manifest import FileEntry, Manifest, shard_name
from h2q.crystal.shards import Entry, plane_entries, raw_entry, shard_header

NO_HASH = "0" * 64


def prefix_bytes(
    spec: ModelSpec,
    seed: int,
    bits: Mapping[str, tuple[int, ...]],
    groups: Sequence[Sequence[tuple[str, int]]],
) -> list[int]:
    """Bytes of crystal.json and shards for the base and each prefix of `groups`. bits: per coded
    part its planes'; groups: per shard the (part name, plane index) it holds. Raises CrystalError
    where they do not agree.
    """
    shapes = {part.name: part.shape for part in coded(spec)}
    base: list[Entry] = []
    for tensor in tensors(spec):
        if not tensor.coded:
            base.append(raw_entry(tensor.name, math.prod(tensor.shape)))
            continue
        for part in parts(tensor):
            base += plane_entries(part.name, 0, PlaneSpec(bits[part.name][0], *part.shape))
    sizes = [_shard_bytes(base)]
    for group in groups:
        sizes.append(
            _shard_bytes(
                [
                    entry
                    for name, plane in group
                    for entry in plane_entries(
                        name, plane, PlaneSpec(bits[name][plane], *shapes[name])
                    )
                ]
            )
        )
    files = [FileEntry(shard_name(i), size, NO_HASH) for i, size in enumerate(sizes)]
    manifest = Manifest(spec, seed, dict(bits), tuple(map(tuple, groups)), tuple(files))
    at, out = len(manifest.to_bytes()), []
    for size in sizes:
        at += size
        out.append(at)
    return out


def _shard_bytes(entries: Sequence[Entry]) -> int:
    return len(shard_header(entries)) + sum(entry.bytes for entry in entries)
