"""Byte-pair tokenizers made from their tables: the library's own in two thirds of its time.

The library reads a tokenizer.json three times over (as text, as a tree, as a model), which is a
good part of a start. Here its tables are read once and handed over; all else of the file
(normalizer, pre-tokenizer, decoder) is left to the library. What is not plainly of this kind, and
every mistake, is left to it altogether.
"""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers.models import BPE

RULES = {  # of a model, besides its tables
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
}
FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")  # of added tokens
COMMENT = b"#version"  # in an old list of merges, where it is none
NO_TABLES = {"type": "BPE", "vocab": {}, "merges": []}


def from_tables(data: bytes) -> tuple[tokenizers.Tokenizer, int] | None:
    """The tokenizer of a tokenizer.json and its largest id; None for one of another kind. Raises
    whatever the library and `json` raise.
    """
    document = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    model, added = document["model"], document["added_tokens"]
    vocab, merges = model.pop("vocab"), _pairs(model.pop("merges"))
    plain = model.pop("type") == "BPE" and model.keys() <= RULES and COMMENT not in data
    if not plain or merges is None or set(map(type, vocab.values())) != {int}:
        return None
    skeleton = {**document, "added_tokens": [], "model": NO_TABLES}
    made = tokenizers.Tokenizer.from_str(json.dumps(skeleton))
    rules = {name: value for name, value in model.items() if value is not None}
    made.model = BPE(vocab=vocab, merges=merges, **rules)
    wanted = {token["id"]: {flag: token[flag] for flag in FLAGS} for token in added}
    made.add_tokens([tokenizers.AddedToken(**flags) for flags in wanted.values()])
    found = {
        index: {flag: getattr(token, flag) for flag in FLAGS}
        for index, token in made.get_added_tokens_decoder().items()
    }
    # The library may give them other numbers than the file says.
    if found != wanted or len(wanted) != len(added):
        return None
    return made, max(*found, max(vocab.values()))


def _pairs(merges: list[Any]) -> list[Any] | None:
    """Newer files have pairs, older ones texts with a space between."""
    kinds = set(map(type, merges))
    if kinds <= {list}:
        return list(map(tuple, merges))
    return [tuple(merge.split(" ")) for merge in merges] if kinds == {str} else None


def _refuse(name: str) -> None:
    """Python would take NaN and the infinities, which are no JSON."""
    raise ValueError(name)
