"""Floor 3: our files. Writing, opening and verifying crystals (docs/format.md)."""

from h2q.crystal.reader import Crystal, crystal_bytes, open_crystal
from h2q.crystal.verify import Check, verify_crystal
from h2q.crystal.writer import CrystalWriter

__all__ = [
    "Check",
    "Crystal",
    "CrystalWriter",
    "crystal_bytes",
    "open_crystal",
    "verify_crystal",
]
