"""Tokenizers on their way into GGUF files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import (
    SEED,
    RandomLlama,
    Words,
    byte_level_words,
    sentencepiece_words,
    stories_words,
    write_gguf,
)
from h2q.core.errors import TextError
from h2q.core.specs import ModelSpec
from h2q.crystallize.export_words import vocabulary
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.gguf_pretokenizers import PRE_TOKENIZERS
from h2q.sources.gguf_tokenizer import merges_from_scores, tokenizer_json
from h2q.sources.gguf_vocabulary import UNUSED, Vocabulary
from h2q.text import Tokenizer

# Rules as tokenizer.json files of published models spell them, and the rule's name in GGUF.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
THREES = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{ENDS}"
ONES = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{ENDS}"


def split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def level(own_rule: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": own_rule,
    }


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


SPELLINGS = [
    ("llama-bpe", sequence(split(THREES), level(False)), True),
    ("dbrx", sequence(split(THREES), level(False)), False),
    ("qwen2", sequence(split(ONES), level(False)), False),
    ("smollm", sequence({"type": "Digits", "individual_digits": True}, level(True)), False),
    ("gpt-2", level(True), False),
]


def spec(size: int) -> ModelSpec:
    return RandomLlama(size).spec


def seed_document() -> dict[str, Any]:
    return dict(json.loads((SEED / "tokenizer.json").read_text()))


def made(document: dict[str, Any], size: int = 4096) -> Vocabulary:
    return vocabulary(json.dumps(document), spec(size))


@pytest.mark.parametrize(("name", "cutter", "whole"), SPELLINGS, ids=[s[0] for s in SPELLINGS])
def test_rules_of_published_tokenizers(name: str, cutter: dict[str, Any], whole: bool) -> None:
    document = seed_document()
    document["pre_tokenizer"], document["model"]["ignore_merges"] = cutter, whole
    found = made(document)
    assert found.pre == name
    assert found.model == "gpt2"
    assert (found.bos, found.add_bos, found.add_eos) == (0, True, False)


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_rule_is_told_from_the_others(tmp_path: Path, pre: str) -> None:
    words = byte_level_words(pre)
    write_gguf(tmp_path / "a.gguf", RandomLlama(len(words.tokens), width=16), words)
    source = GGUFSource(tmp_path / "a.gguf")
    found = vocabulary(source.tokenizer_json(), source.spec)
    ours, theirs = PRE_TOKENIZERS[found.pre], PRE_TOKENIZERS[pre]
    assert (ours.patterns, ours.whole_words) == (theirs.patterns, theirs.whole_words)
    assert found.add_bos == theirs.first


def same_pieces(words: Words, folder: Path) -> Vocabulary:
    write_gguf(folder / "a.gguf", RandomLlama(len(words.tokens), width=16), words)
    source = GGUFSource(folder / "a.gguf")
    found = vocabulary(source.tokenizer_json(), source.spec)
    assert (found.model, list(found.tokens), list(found.types)) == (
        words.model,
        words.tokens,
        words.types,
    )
    again = Tokenizer.from_json(tokenizer_json(found))
    first = Tokenizer.from_json(source.tokenizer_json())

    @settings(max_examples=100, deadline=None, database=None)
    @given(text=st.text(max_size=40))
    def any_text(text: str) -> None:
        assert again.encode(text) == first.encode(text)

    any_text()
    return found


def test_pieces_keep_their_order(tmp_path: Path) -> None:
    words = sentencepiece_words()
    found = same_pieces(words, tmp_path)
    ranked = sorted(range(259, len(words.tokens)), key=lambda i: -words.scores[i])
    merged = {left + right for left, right in merges_from_scores(found)}
    mine = sorted(range(259, len(words.tokens)), key=lambda i: -found.scores[i])
    assert [i for i in mine if found.tokens[i] in merged] == [
        i for i in ranked if found.tokens[i] in merged
    ]
    assert found.add_space_prefix


def test_the_pieces_of_stories260k(tmp_path: Path, shared: Path) -> None:
    same_pieces(stories_words(shared / "models" / "stories260K"), tmp_path)


@pytest.mark.parametrize("scheme", ["first", "never"])
def test_spaces_as_newer_files_write_them(tmp_path: Path, scheme: str) -> None:
    words = sentencepiece_words()
    write_gguf(tmp_path / "a.gguf", RandomLlama(len(words.tokens), width=16), words)
    document = json.loads(GGUFSource(tmp_path / "a.gguf").tokenizer_json())
    document["normalizer"] = None
    document["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": scheme,
        "split": False,
    }
    found = made(document, len(words.tokens))
    assert found.add_space_prefix == (scheme == "first")


def test_rows_without_a_token_are_unused() -> None:
    found = made(seed_document(), 4100)
    assert list(found.tokens[4096:]) == ["[PAD4096]", "[PAD4097]", "[PAD4098]", "[PAD4099]"]
    assert list(found.types[4096:]) == [UNUSED] * 4
    with pytest.raises(TextError, match="4,096 entries, the model 4,000"):
        made(seed_document(), 4000)


def harmed(**changes: Any) -> dict[str, Any]:
    document = seed_document()
    for place, value in changes.items():
        *folders, key = place.split("__")
        inner = document
        for folder in folders:
            inner = inner[folder]
        inner[key] = value
    return document


SPECIAL = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (harmed(model__end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (harmed(pre_tokenizer={"type": "Whitespace"}), "works on letters"),
        (harmed(pre_tokenizer=sequence(split(r"\w+"), level(False))), "cuts words in a way"),
        (harmed(normalizer={"type": "Lowercase"}), "a rule of its own for texts such as"),
        (harmed(post_processor__single=[SPECIAL, SPECIAL, TEXT]), "several tokens around"),
        (
            harmed(
                model={"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "<|endoftext|>"},
            ),
            "kind WordLevel",
        ),
    ],
)
def test_what_has_no_form_is_refused(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        made(document)


def test_merges_that_are_no_scores(tmp_path: Path) -> None:
    words = sentencepiece_words()
    write_gguf(tmp_path / "a.gguf", RandomLlama(len(words.tokens), width=16), words)
    document = json.loads(GGUFSource(tmp_path / "a.gguf").tokenizer_json())
    merges = document["model"]["merges"]
    at = next(i for i in range(len(merges)) if "".join(merges[i]) == "".join(merges[i + 1]))
    merges.insert(0, merges.pop(at + 1))
    with pytest.raises(TextError, match="not in the order of any scores"):
        made(document, len(words.tokens))
