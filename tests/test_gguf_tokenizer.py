"""Tokenizers made from GGUF metadata: against the tokenizer.json of the same vocabulary, against
rules that hold for any text, and refused where they cannot be right. (tests/peers holds them
against llama.cpp.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import (
    CONTROL,
    SEED,
    USER_DEFINED,
    RandomLlama,
    Words,
    byte_level_words,
    sentencepiece_words,
    write_gguf,
)
from h2q.core.errors import SourceError
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.gguf_pretokenizers import PRE_TOKENIZERS
from h2q.text import Tokenizer

BOOL, TEXT, UINT = GGUFValueType.BOOL, GGUFValueType.STRING, GGUFValueType.UINT32
Keys = dict[str, tuple[object, GGUFValueType]]
letters = st.characters(exclude_categories=["Cs", "Cn"])
any_text = st.text(letters, max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


def opened(folder: Path, words: Words, keys: Keys | None = None) -> GGUFSource:
    path = folder / "model.gguf"
    write_gguf(path, RandomLlama(len(words.tokens), tied=True, width=16), words, keys=keys)
    return GGUFSource(path)


def tokenizer(folder: Path, words: Words, keys: Keys | None = None) -> Tokenizer:
    return Tokenizer.from_json(opened(folder, words, keys).tokenizer_json())


@pytest.fixture(scope="module")
def byte_level(folder: Path) -> Tokenizer:
    keys: Keys = {"tokenizer.ggml.add_bos_token": (True, BOOL)}
    return tokenizer(folder, byte_level_words("gpt-2"), keys)


@pytest.fixture(scope="module")
def sentencepiece(folder: Path) -> Tokenizer:
    return tokenizer(folder, sentencepiece_words())


@pytest.fixture(scope="module")
def seed() -> Tokenizer:
    return Tokenizer(SEED / "tokenizer.json")


@settings(max_examples=300, deadline=None)
@given(text=any_text)
def test_byte_level_gives_the_ids_of_the_folder(
    byte_level: Tokenizer, seed: Tokenizer, text: str
) -> None:
    assert byte_level.encode(text) == seed.encode(text)
    assert byte_level.decode(byte_level.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=any_text)
def test_sentencepiece_keeps_every_text(sentencepiece: Tokenizer, text: str) -> None:
    ids = sentencepiece.encode(text)
    assert ids[0] == 1
    if not any(special in text for special in ("<unk>", "<s>", "</s>", "▁")):
        assert sentencepiece.decode(ids) == text


def test_sentencepiece_merges_by_score() -> None:
    """Worked by hand: `ab` scores better than `bc`, so `abc` is `ab` and `c`, but `bc` alone is one
    token.
    """
    pieces = {"▁": -6.0, "a": -3.0, "b": -4.0, "c": -5.0, "ab": -0.5, "bc": -1.0, "▁ab": -2.0}
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    words = Words(
        "llama",
        ["<unk>", "<s>", "</s>", *byte_tokens, *pieces],
        [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
        [0.0] * 259 + list(pieces.values()),
    )
    ids = {token: index for index, token in enumerate(words.tokens)}

    def expect(text: str, *tokens: str, keys: Keys | None = None) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            found = tokenizer(Path(folder), words, keys)
        assert found.encode(text) == [ids[token] for token in tokens]

    expect("", "<s>")
    expect("abc", "<s>", "▁ab", "c")
    expect("bc", "<s>", "▁", "bc")
    expect("cabc", "<s>", "▁", "c", "ab", "c")
    expect("é", "<s>", "▁", "<0xC3>", "<0xA9>")
    expect("a</s>b", "<s>", "▁", "a", "</s>", "▁", "b")
    bare: Keys = {
        "tokenizer.ggml.add_space_prefix": (False, BOOL),
        "tokenizer.ggml.add_bos_token": (False, BOOL),
        "tokenizer.ggml.add_eos_token": (True, BOOL),
    }
    expect("bc ab", "bc", "▁ab", "</s>", keys=bare)


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_way_of_cutting_keeps_every_text(folder: Path, pre: str) -> None:
    found = tokenizer(folder, byte_level_words(pre))
    text = "It's 12345 o'clock,\r\n\n  IT'LL be  fine!\t«ÄÖ»   한국어 日本語 ελληνικά  🙂 \u3000x  "
    assert found.decode(found.encode(text)) == text
    begins = found.encode("a")[0] == 0
    assert begins == PRE_TOKENIZERS[pre].first


def test_special_tokens_are_found_in_texts(folder: Path) -> None:
    words = byte_level_words()
    tokens, types = list(words.tokens), list(words.types)
    tokens[-2:], types[-2:] = ["<|im_end|>", "<tool>"], [1, USER_DEFINED]
    merges = [m for m in words.merges if m.replace(" ", "") not in words.tokens[-2:]]
    source = opened(folder, replace(words, tokens=tokens, types=types, merges=merges))
    found = Tokenizer.from_json(source.tokenizer_json())
    end, tool = len(tokens) - 2, len(tokens) - 1
    assert source.spec.eos_token_ids == (0, end)  # a well-known end of a turn, whatever its type
    ids = found.encode("a<|im_end|>b<tool>")
    assert ids.count(end) == ids.count(tool) == 1
    assert found.decode(ids) == "ab<tool>"


def test_a_chat_template_is_kept(folder: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    words = sentencepiece_words()
    assert opened(folder, words).chat_template() is None
    keys: Keys = {"tokenizer.chat_template": (template, TEXT)}
    assert opened(folder, words, keys).chat_template() == template


def test_what_is_not_a_tokenizer_is_refused(folder: Path) -> None:
    words = byte_level_words("the-future")
    with pytest.raises(SourceError, match="rule 'the-future'"):
        tokenizer(folder, words)
    words = byte_level_words()
    for merge in ("no space", "nospace", " x", "x ", "", "Ġt \N{SNOWMAN}"):
        with pytest.raises(SourceError, match="Merge 1"):
            tokenizer(folder, replace(words, merges=[words.merges[0], merge]))
    keys: Keys = {"tokenizer.ggml.add_eos_token": (True, BOOL)}
    keys["tokenizer.ggml.eos_token_id"] = (0xFFFFFFFF, UINT)
    with pytest.raises(SourceError, match="names no eos_token_id"):
        tokenizer(folder, words, keys)


def test_added_tokens_say_what_they_are(folder: Path) -> None:
    document = json.loads(opened(folder, sentencepiece_words()).tokenizer_json())
    rows = {row["content"]: row for row in document["added_tokens"]}
    assert set(rows) == {"<unk>", "<s>", "</s>"}
    assert all(row["special"] for row in rows.values())
    assert CONTROL == 3
