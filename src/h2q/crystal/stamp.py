"""The stamp that spares a start the hashing: size, time and inode of each shard when its checksum
was last proven.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from h2q.core.errors import CrystalError
from h2q.core.safetensors_header import read_json

NAME = ".verified.json"
LIMIT = 1 << 20


def states(files: list[Path]) -> dict[str, list[int]]:
    """Size, time and inode of each file now, by name."""
    return {file.name: _state(file) for file in files}


def write_stamp(folder: Path, proven: dict[str, list[int]]) -> None:
    """Record the states that files had when their checksums were computed; a folder that may not
    be written is left without a stamp.
    """
    part = folder / f"{NAME}.{os.getpid()}"
    with contextlib.suppress(OSError):
        text = json.dumps(proven)
        try:
            # Never through a link that came with the folder: the name is new, or it is refused.
            with part.open("x", encoding="ascii") as file:
                file.write(text)
            part.replace(folder / NAME)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def stamped(folder: Path, files: list[Path]) -> bool:
    """True when every file is as it was when it was last proven."""
    try:
        table = read_json(folder / NAME, LIMIT, CrystalError)
        return all(table.get(file.name) == _state(file) for file in files)
    except (OSError, CrystalError):
        return False


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
