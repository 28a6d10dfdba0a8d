"""The dialects on the wire, byte for byte: whole and streamed answers, and every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from transcripts import FOLDER, read, told_now


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_it_answers_as_written(path: Path) -> None:
    written = read(path)
    assert len(written) > 5
    for told, known in zip(told_now(path), written, strict=True):
        assert told.text() == known.text()
