"""Streams of tokens give the text the tokenizer gives, character by character."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.core.errors import Cancelled, TextError
from h2q.text import Tokenizer
from h2q.text.limits import failures

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed" / "tokenizer.json"
# The library cuts two bytes off the second half of a merge that has only one: it panics.
PANIC = (
    b'{"version": "1.0", "model": {"type": "BPE", "continuing_subword_prefix": "##",'
    b' "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}'
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(SEED)


@given(text=st.text(max_size=60))
def test_a_stream_adds_up_to_the_text(text: str) -> None:
    tokenizer = Tokenizer(SEED)
    stream = tokenizer.stream()
    ids = tokenizer.encode(text, special=False)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)


def test_half_a_character_is_held_back(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    ids = tokenizer.encode("\N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}", special=False)
    pieces = [stream.push(token) for token in ids]
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert "".join(pieces) == "\N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}"
    assert len(ids) > 2


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"model": 1}', PANIC])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError):
        Tokenizer(path)


def test_a_tokenizer_that_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    tokenizer.require_fit(tokenizer.vocab_size)
    with pytest.raises(TextError, match="do not belong together"):
        tokenizer.require_fit(tokenizer.vocab_size - 1)


@pytest.mark.parametrize("stop", [Cancelled("Stopped."), MemoryError()])
def test_a_stop_is_no_fault_of_the_tokenizer(stop: BaseException) -> None:
    """Ctrl-C while the library works arrives as an exception of ours."""
    with pytest.raises(type(stop)), failures("a text"):
        raise stop
