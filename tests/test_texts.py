"""What the texts of a growth are said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.events import silent
from h2q.crystallize import texts
from h2q.sources import Source
from h2q.text import Tokenizer
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


@pytest.mark.parametrize("words", ["The sea was calm. ", "a" * 90 + " ", "\u6d77\U0001f30a"])
@pytest.mark.parametrize("count", [1, 100, 3000])
def test_of_a_long_text_only_the_begin_is_read(
    seed_source: Source, words: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ids as of the whole, however long the tokens are."""
    tokenizer = Tokenizer.from_json(seed_source.tokenizer_json())
    text = words * (400_000 // len(words))
    whole, read = tokenizer.encode(text, special=False), []
    encode = tokenizer.encode

    def noted(some: str, special: bool = True) -> list[int]:
        read.append(len(some))
        return encode(some, special)

    monkeypatch.setattr(tokenizer, "encode", noted)
    assert texts.begin_of(tokenizer, text, count) == whole[:count]
    assert sum(read) < len(text) * max(0.2, 8 * (count + texts.CUT) / len(whole))
    assert texts.begin_of(tokenizer, text[:50], count) == encode(text[:50], special=False)[:count]
