"""What the texts of a growth are said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.events import silent
from h2q.crystallize import texts
from small_llamas import BRIEF, small_llama

OWN = "The sea was calm and the night was long. " * 40


@pytest.mark.parametrize("own", [None, OWN], ids=["sampled", "given"])
@pytest.mark.parametrize("free", [0, 1 << 40], ids=["short of memory", "enough"])
def test_texts_are_called_what_they_are(
    own: str | None, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "free_bytes", lambda: free)
    source = small_llama(tmp_path / "small")
    found = texts.gather_texts(source, replace(BRIEF, calibration=own), silent)
    spoken = texts.SAMPLED if free else texts.DRAFTED
    assert found.measured_on == spoken
    assert found.calibrated_on == (texts.OWN_TEXT if own else spoken)
