"""Floor 3: our files. Writing, opening and verifying crystals (docs/format.md).

Names load on first use: who lists a store needs no arrays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.crystal.reader import Crystal, crystal_bytes, open_crystal
    from h2q.crystal.verify import Check, verify_crystal
    from h2q.crystal.writer import CrystalWriter

_HOMES = {
    "Check": "verify",
    "Crystal": "reader",
    "CrystalWriter": "writer",
    "crystal_bytes": "reader",
    "open_crystal": "reader",
    "verify_crystal": "verify",
}

__all__ = [
    "Check",
    "Crystal",
    "CrystalWriter",
    "crystal_bytes",
    "open_crystal",
    "verify_crystal",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"h2q.crystal.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'h2q.crystal' has no attribute {name!r}")
