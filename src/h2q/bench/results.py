"""Result files: one JSON document per benchmark, replaced whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from h2q.core.errors import ResourceError


def write_result(path: Path, document: dict[str, Any]) -> None:
    """Write a document in one step. Raises ResourceError when the disk or the folder does not allow
    it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(document, indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"The result cannot be written: {error.strerror}.", where=path.name
        ) from error
