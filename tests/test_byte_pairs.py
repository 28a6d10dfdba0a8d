"""Tokenizers made from their tables are those that the library reads, in every respect."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer as Library

from conftest import SEED
from h2q.bench.random_crystal import tokenizer_json
from h2q.bench.random_model import SHAPES, TRIAL
from h2q.core.errors import TextError
from h2q.text import Tokenizer
from h2q.text.byte_pairs import from_tables
from text_tokenizers import byte_level, sentencepiece

Document = dict[str, Any]
TEXTS = ("", "the sea", "  a\tthe\n", "ünïcödé 漢字 🙂", "<s>the</s><|call|>", "\x00\u2581a")


def seed() -> Document:
    return dict(json.loads((SEED / "tokenizer.json").read_text("utf-8")))


def changed(change: Callable[[Document], object]) -> Document:
    document = seed()
    change(document)
    return document


def joined(document: Document) -> None:
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]


def added(document: Document, content: str, number: int, **flags: bool) -> None:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    document["added_tokens"].append({"id": number, "content": content, **plain, **flags})


def more(document: Document) -> None:
    size = 1 + max(document["model"]["vocab"].values())
    added(document, "<more>", size, special=True)
    added(document, "word", size + 1, single_word=True, lstrip=True, normalized=True)


PLAIN = {
    "seed": seed(),
    "old merges": changed(joined),
    "tokens beyond the table": changed(more),
    "ignore merges": changed(lambda d: d["model"].update(ignore_merges=True)),
    "unknown": changed(lambda d: d["model"].update(unk_token="a", fuse_unk=True)),
    "padded and cut": changed(
        lambda d: d.update(
            truncation={
                "direction": "Right",
                "max_length": 4,
                "strategy": "LongestFirst",
                "stride": 0,
            }
        )
    ),
    "strip": json.loads(sentencepiece("strip").to_json()),
    "metaspace": json.loads(sentencepiece("metaspace", ["<|new|>"]).to_json()),
    "special": json.loads(byte_level(["<|call|>"]).to_json()),
    "random": json.loads(tokenizer_json(SHAPES[TRIAL])),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_tokenizer_either_way(name: str) -> None:
    data = json.dumps(PLAIN[name]).encode()
    theirs = Library.from_buffer(data)
    found = from_tables(data)
    assert found is not None
    ours, largest = found
    assert ours.to_str() == theirs.to_str()
    assert largest == max(theirs.get_vocab(with_added_tokens=True).values())
    for text in TEXTS:
        ids = theirs.encode(text).ids
        assert ours.encode(text).ids == ids
        assert ours.decode(ids) == theirs.decode(ids)
    assert Tokenizer.from_json(data.decode()).vocab_size == largest + 1


@pytest.mark.parametrize(
    "document",
    [
        changed(lambda d: added(d, "<other number>", 7)),
        changed(lambda d: d["added_tokens"].append(d["added_tokens"][0])),
        changed(lambda d: d["model"].update(future_rule=1)),
        changed(lambda d: d["model"].update(merges=["#version: 0.2", "a b"])),
        changed(lambda d: d["model"].update(type="WordLevel")),
        changed(lambda d: d["model"]["merges"].append("a b")),
    ],
)
def test_what_is_not_plain_is_left_to_the_library(document: Document) -> None:
    assert from_tables(json.dumps(document).encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"]["merges"].append(["no such", "pair"]),
        lambda d: d["model"]["merges"].append(["one"]),
        lambda d: d["model"]["vocab"].update(a=-1),
        lambda d: d["model"]["vocab"].update(a=True),
        lambda d: d["model"]["vocab"].update({"\ud800": 3}),
        lambda d: d["model"].update(dropout=float("nan")),
        lambda d: d.update(normalizer={"type": "None such"}),
        lambda d: d.update(version="9.0"),
    ],
)
def test_a_mistake_is_told_as_ever(change: Callable[[Document], object]) -> None:
    text = json.dumps(changed(change))
    with pytest.raises(BaseException):  # noqa: B017 - a panic of the library is none of ours
        Library.from_buffer(text.encode())
    with pytest.raises(TextError, match="fails on its own file"):
        Tokenizer.from_json(text)
