"""Tokenizers that would hang, panic or make a word fill the memory, from folders and crystals."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from doors import opened, refused

from conftest import SEED

TOKENIZER = SEED / "tokenizer.json"
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def replacing(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def in_turn(count: int, rule: dict[str, Any], kind: str = "normalizers") -> dict[str, Any]:
    return {"type": "Sequence", kind: [rule] * count}


def nested(depth: int) -> dict[str, Any]:
    rule = replacing("a", "a")
    for _ in range(depth):
        rule = in_turn(1, rule)
    return rule


def charsmap(trie: bytes, written: bytes, claimed: int | None = None) -> dict[str, Any]:
    size = len(trie) if claimed is None else claimed
    data = size.to_bytes(4, "little") + trie + written
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(TOKENIZER.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"normalizer": in_turn(3, replacing("a", "a" * 300))}, "times as long"),
        ({"normalizer": in_turn(40, replacing("a", "aa"))}, "times as long"),
        ({"normalizer": replacing("a", "ä" * 40)}, "times as long"),
        ({"normalizer": nested(20)}, "too deep"),
        ({"decoder": in_turn(3, replacing("a", "a" * 300), "decoders")}, "times as long"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "malformed"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}}, "malformed"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "malformed"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": 7}}, "malformed"),
        ({"normalizer": charsmap(b"", b"x\0")}, "fails"),
        ({"normalizer": {"type": "Precompiled"}, "x": "precompiled_charsmap"}, "malformed"),
        ({"normalizer": replacing("(", "a", "Regex")}, "fails on its own file"),
        ({"pre_tokenizer": {**SPLIT, "pattern": {"Regex": "(a+)+$"}}}, "fails on a text"),
        ({"model": {"type": "Unigram", "unk_id": None, "vocab": []}}, "fails"),
        ({"model": {"type": "Unigram", "unk_id": 5, "vocab": [["x", 0.0]]}}, "fails"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, "fails"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "fails"),
        ({"model": {"type": "pickle"}}, "fails"),
        ({"added_tokens": [{"id": 1 << 32, "content": "z", "special": True, **ADDED}]}, "fails"),
        ({"version": "9.9"}, "fails"),
    ],
)
def test_rules_that_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path, **changes)
    refused("tokenizer", path, "TextError")
    refused("tokenizer", path, words)


def test_a_character_map_that_hides(tmp_path: Path) -> None:
    """The library asks for 8 GiB on the word of four bytes; escapes must not let it see them."""
    path = write(tmp_path, normalizer=charsmap(b"", b"", claimed=0xFFFF_FFFF))
    path.write_text(path.read_text().replace("precompiled_charsmap", "precompiled\\u005fcharsmap"))
    refused("tokenizer", path, "malformed")


def test_a_character_map_that_writes_much(tmp_path: Path) -> None:
    trie = bytes(4 * 256)
    for many, words in ((9, "long"), (1, "")):
        rule = in_turn(many, charsmap(trie, b"x" * 63 + b"\0"))
        said = opened("tokenizer", write(tmp_path, normalizer=rule))
        assert words in said


@pytest.mark.parametrize("strategy", [{"Fixed": 10**12}, "BatchLongest"])
def test_padding_and_truncation_of_a_file_are_not_ours(tmp_path: Path, strategy: object) -> None:
    padding = {"strategy": strategy, "pad_token": "x", **PADDING}
    truncation = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    assert opened("tokenizer", write(tmp_path, padding=padding)) == "opened"
    from h2q.text import Tokenizer

    whole = Tokenizer(TOKENIZER).encode("three words here")
    path = write(tmp_path, padding=padding, truncation=truncation)
    assert Tokenizer(path).encode("three words here") == whole


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_files_that_are_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    refused("tokenizer", path, "TextError")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused("tokenizer", path, "larger than")
