"""Coverage-guided fuzzing of crystal.json (`make fuzz`).

Any exception but CrystalError is a finding, and so is a description that is another one when it is
written and read again.
"""

from __future__ import annotations

import json
import sys

import atheris
from fuzzing import TESTS, fuzz

with atheris.instrument_imports(include=["h2q"]):
    from h2q.core.errors import CrystalError
    from h2q.crystal.manifest import FileEntry, Manifest, coded, parse_manifest, shard_name

sys.path.insert(0, str(TESTS))

from small_crystals import REFINED, SPEC


def one_input(data: bytes) -> None:
    """Read a description, write it, read it again."""
    try:
        found = parse_manifest(data, "fuzz.crystal")
    except CrystalError:
        return
    assert parse_manifest(found.to_bytes(), "fuzz.crystal") == found


def seeds() -> dict[str, bytes]:
    """A base alone, and one with two groups of refinements."""
    names = [tensor.name for tensor in coded(SPEC)]
    files = tuple(FileEntry(shard_name(i), 1 << 20, f"{i}" * 64) for i in range(3))
    base = Manifest(SPEC, 7, dict.fromkeys(names, (2,)), (), files[:1])
    refined = {name for group in REFINED for name in group}
    bits = {name: (2, 1) if name in refined else (1,) for name in names}
    groups = tuple(tuple((name, 1) for name in group) for group in REFINED)
    whole = Manifest(SPEC, 0, bits, groups, files)
    readable = json.dumps(json.loads(whole.to_bytes()), indent=1).encode()
    return {"base": base.to_bytes(), "whole": whole.to_bytes(), "readable": readable}


if __name__ == "__main__":
    fuzz("crystal", one_input, seeds())
