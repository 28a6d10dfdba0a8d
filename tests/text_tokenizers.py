"""Tokenizers of every kind that streams must deal with, made on the spot."""

from __future__ import annotations

import json

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from conftest import SEED
from h2q.text import Tokenizer

WORDS = ["▁", "▁a", "▁the", "a", "b", "e", "t", "h", "the", "▁▁", "ü", "€", ",", "<", ">", "|"]
SPECIAL = ["<s>", "</s>", "<|call|>"]


def sentencepiece(kind: str, special: list[str] | None = None) -> Tokenizer:
    """A vocabulary with byte fall-back; `kind` is the way its decoder treats spaces."""
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    vocab = {name: index for index, name in enumerate(names)}
    merges = [("t", "h"), ("th", "e")]
    vocab["th"] = len(vocab)
    made = Library(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True))
    if kind == "strip":
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        made.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
        made.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace("▁", prepend_scheme="first")]
        )
    made.add_special_tokens([*SPECIAL, *(special or [])])
    return Tokenizer.from_json(made.to_str())


def byte_level(special: list[str]) -> Tokenizer:
    """The seed model's, with more special tokens."""
    made = Library.from_str(json.dumps(json.loads((SEED / "tokenizer.json").read_text())))
    made.add_special_tokens(special)
    return Tokenizer.from_json(made.to_str())
