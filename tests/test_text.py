"""Streams of tokens give the text the tokenizer gives, character by character."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q.core.errors import Cancelled, TextError, UsageError
from h2q.text import StopStrings, Tokenizer, fim_prompt, infill_tokens
from h2q.text.limits import failures
from text_tokenizers import byte_level, sentencepiece

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed" / "tokenizer.json"
# The library cuts two bytes off the second half of a merge that has only one: it panics.
PANIC = (
    b'{"version": "1.0", "model": {"type": "BPE", "continuing_subword_prefix": "##",'
    b' "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}'
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(SEED)


def streamed(tokenizer: Tokenizer, ids: list[int], keep: tuple[str, ...] = ()) -> str:
    stream = tokenizer.stream(keep)
    return "".join(map(stream.push, ids)) + stream.flush()


@pytest.fixture(scope="module")
def kinds() -> dict[str, Tokenizer]:
    return {
        "bytes": byte_level(["<|call|>"]),
        "strip": sentencepiece("strip"),
        "metaspace": sentencepiece("metaspace"),
    }


@settings(max_examples=40)
@given(text=st.text(max_size=60), kind=st.sampled_from(["bytes", "strip", "metaspace"]))
def test_a_stream_adds_up_to_the_text(kinds: dict[str, Tokenizer], text: str, kind: str) -> None:
    tokenizer = kinds[kind]
    ids = tokenizer.encode(text, special=False)
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 4200), max_size=60))
def test_any_tokens_of_bytes_add_up(kinds: dict[str, Tokenizer], ids: list[int]) -> None:
    tokenizer = kinds["bytes"]
    size = tokenizer.vocab_size
    known = [index for index in ids if index < size]
    assert streamed(tokenizer, ids) == tokenizer.decode(known)


@given(
    st.lists(st.sampled_from([0, 1, 2, *range(259, 276), [0xE2, 0x82, 0xAC], [0xC3, 0xBC]])),
    st.sampled_from(["strip", "metaspace"]),
)
def test_spaces_bytes_and_special_tokens_add_up(
    kinds: dict[str, Tokenizer], parts: list[int | list[int]], kind: str
) -> None:
    """Whole characters as byte tokens, special tokens and spaces anywhere."""
    rows = [[byte + 3 for byte in part] if isinstance(part, list) else [part] for part in parts]
    ids = [index for row in rows for index in row]
    assert streamed(kinds[kind], ids) == kinds[kind].decode(ids)


@pytest.mark.parametrize("kind", ["bytes", "strip", "metaspace"])
def test_a_special_token_can_be_kept(kinds: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = kinds[kind]
    call = tokenizer.token_id("<|call|>")
    assert call is not None
    assert "<|call|>" in tokenizer.added_names()
    ids = [*tokenizer.encode("a", special=False), call, *tokenizer.encode("b", special=False)]
    assert "<|call|>" not in streamed(tokenizer, ids)
    assert streamed(tokenizer, ids, ("<|call|>", "<none>")).startswith("a<|call|>")


def test_broken_bytes_are_marked_and_do_not_wait_for_ever(kinds: dict[str, Tokenizer]) -> None:
    for kind in ("strip", "metaspace"):
        stream = kinds[kind].stream()
        pieces = [stream.push(0x82 + 3) for _ in range(100)]
        assert "".join(pieces) + stream.flush() == "\N{REPLACEMENT CHARACTER}" * 100
        assert pieces[15]
        assert stream.push(262) != ""


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 30)),
)
def test_a_stop_ends_the_text_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for marks in (borders, [0, len(text)], list(range(len(text) + 1))):
        watch = StopStrings(stops)
        said = "".join(watch.push(text[a:b]) for a, b in pairwise(marks)) + watch.flush()
        assert said == expected
        assert (watch.found is not None) == bool(ends)
        assert watch.push("more") == ("" if ends else "more") or not ends


def test_only_a_possible_stop_waits() -> None:
    watch = StopStrings(["STOP", "\n\n"])
    assert watch.push("a\nb S") == "a\nb "
    assert watch.push("TO") == ""
    assert watch.push("NE\n") == "STONE"
    assert watch.push("\nrest") == ""
    assert watch.found == "\n\n"
    with pytest.raises(UsageError, match="empty"):
        StopStrings([""])


@pytest.mark.parametrize(
    "names",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ],
)
def test_infill_prompts(names: tuple[str, str, str]) -> None:
    tokenizer = byte_level(list(names))
    found = fim_prompt(tokenizer, "def f():", f"return {names[0]}")
    before, between, after = infill_tokens(tokenizer) or (0, 0, 0)
    first = tokenizer.first_ids()
    assert found[: len(first) + 1] == [*first, before]
    assert found[-1] == after
    assert found.count(before) == 1  # a name in a text is a text
    at = found.index(between)
    assert tokenizer.decode(found[:at]) == "def f():"
    assert tokenizer.decode(found[at:]) == f"return {names[0]}"


def test_infill_with_leading_spaces() -> None:
    """SentencePiece puts a space before a text, but not before what follows a hole."""
    tokenizer = sentencepiece("strip", ["▁<PRE>", "▁<SUF>", "▁<MID>"])
    tokens = infill_tokens(tokenizer)
    assert tokens is not None
    space = tokenizer.token_id("▁")
    found = fim_prompt(tokenizer, "b", "b")
    assert found == [tokens[0], space, tokenizer.token_id("b"), tokens[1], found[2], tokens[2]]


def test_infill_needs_its_tokens(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="does not fill in the middle"):
        fim_prompt(tokenizer, "a", "b")


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
