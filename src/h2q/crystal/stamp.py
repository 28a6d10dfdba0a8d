"""The stamp that spares a start the hashing: size, time and inode of each shard when its checksum
was last proven.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

NAME = ".verified.json"
LIMIT = 1 << 20


def write_stamp(folder: Path, files: list[Path]) -> None:
    """Record the files' present state; a folder that may not be written is left without a stamp."""
    with contextlib.suppress(OSError):
        (folder / NAME).write_text(json.dumps({file.name: _state(file) for file in files}))


def stamped(folder: Path, files: list[Path]) -> bool:
    """True when every file is as it was when it was last proven."""
    try:
        path = folder / NAME
        if path.stat().st_size > LIMIT:
            return False
        table: Any = json.loads(path.read_text())
        return isinstance(table, dict) and all(table.get(f.name) == _state(f) for f in files)
    except (OSError, ValueError, RecursionError):
        return False


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
