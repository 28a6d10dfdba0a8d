"""What every test of hostile GGUF files does: write the bytes, open them, and expect one error."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from h2q.core.errors import SourceError
from h2q.sources.gguf_file import GGUFSource


def opened(folder: Path, data: bytes) -> GGUFSource:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return GGUFSource(path)


def refused(folder: Path, data: bytes, reason: str) -> None:
    """Refused for this reason, with little memory, and without a path in the words."""
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=reason) as caught:
            opened(folder, data)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000 + 100 * len(data)
    finally:
        tracemalloc.stop()
    assert str(folder) not in str(caught.value)
    assert len(str(caught.value)) < 1000
