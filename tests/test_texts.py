"""What the texts of a growth are said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.events import silent
from h2q.crystallize import texts
from small_llamas import BRIEF, SPEC, small_llama

OWN = "The sea was calm and the night was long. " * 40


@pytest.mark.parametrize("own", [None, OWN], ids=["sampled", "given"])
@pytest.mark.parametrize(
    ("free", "spoken"),
    [(0, texts.DRAFTED), (1 << 20, texts.ROUNDED), (1 << 40, texts.SAMPLED)],
    ids=["short of memory", "enough for seven bits", "enough"],
)
def test_texts_are_called_what_they_are(
    own: str | None, free: int, spoken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "free_bytes", lambda: free)
    source = small_llama(tmp_path / "small")
    found = texts.gather_texts(source, replace(BRIEF, calibration=own), silent)
    assert found.measured_on == spoken
    assert found.calibrated_on == (texts.OWN_TEXT if own else spoken)


def test_a_large_model_speaks_in_seven_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "free_bytes", lambda: 1 << 40)
    assert texts.choose_speaker(SPEC) == texts.ROUNDED
