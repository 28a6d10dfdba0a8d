"""The vocabulary in the metadata of a GGUF file, checked entry by entry."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from h2q.core.errors import SourceError, shown
from h2q.core.specs import MAX_VOCABULARY
from h2q.sources.gguf_metadata import Metadata

SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MAX_TOKEN_BYTES = 1024
MAX_PRE = 64
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
# Texts that end a turn or a document wherever they occur as a token, besides what the keys name.
ENDINGS = {
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<EOT>",
    "[EOS]",
    "<eos>",
    "<｜end▁of▁sentence｜>",
}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their types (NORMAL to BYTE), scores (SentencePiece) or merges
    (byte-level), and what is added around a text. `stops`: ids that end a generation.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float]
    merges: Sequence[str]
    bos: int | None
    eos: int | None
    stops: tuple[int, ...]
    add_bos: bool | None
    add_eos: bool
    add_space_prefix: bool
    where: str


def read_vocabulary(metadata: Metadata) -> Vocabulary:
    """Raises SourceError on a vocabulary this version cannot read, or that is not sound."""
    model = metadata.text("tokenizer.ggml.model")
    if model not in (SENTENCEPIECE, BYTE_LEVEL):
        raise SourceError(
            f"The tokenizer {shown(model or '')} is not known to this version.",
            where=metadata.where,
            fix="Supported: llama (SentencePiece) and gpt2 (byte-level pairs).",
        )
    tokens = metadata.texts("tokenizer.ggml.tokens") or ()
    if not 1 <= len(tokens) <= MAX_VOCABULARY:
        raise SourceError(
            f"The vocabulary has {len(tokens):,} tokens; 1 to {MAX_VOCABULARY:,} are allowed.",
            where=metadata.where,
        )
    types = metadata.integers("tokenizer.ggml.token_type")
    scores = metadata.numbers("tokenizer.ggml.scores")
    merges = metadata.texts("tokenizer.ggml.merges")
    if model == SENTENCEPIECE and scores is None:
        raise SourceError("The vocabulary has no scores.", where=metadata.where)
    if model == BYTE_LEVEL and merges is None:
        raise SourceError("The vocabulary has no merges.", where=metadata.where)
    types = [NORMAL] * len(tokens) if types is None else types
    _require_sound(tokens, types, scores or (), metadata.where)
    ids = {
        name: _token_id(metadata, f"tokenizer.ggml.{name}_token_id", len(tokens))
        for name in ("bos", "eos", "eot", "eom", "unknown")
    }
    if model == SENTENCEPIECE:  # the defaults of the format
        ids["bos"] = _default(ids["bos"], 1, len(tokens))
        ids["eos"] = _default(ids["eos"], 2, len(tokens))
    endings = [index for index, token in enumerate(tokens) if token in ENDINGS]
    found = [ids["eos"], ids["eot"], ids["eom"], *endings]
    prefix = metadata.flag("tokenizer.ggml.add_space_prefix")
    return Vocabulary(
        model=model,
        pre=(metadata.text("tokenizer.ggml.pre") or "default")[:MAX_PRE],
        tokens=tokens,
        types=[CONTROL if tokens[i] in ENDINGS else kind for i, kind in enumerate(types)],
        scores=scores or (),
        merges=merges or (),
        bos=ids["bos"],
        eos=ids["eos"],
        stops=tuple(dict.fromkeys(token for token in found if token is not None)),
        add_bos=metadata.flag("tokenizer.ggml.add_bos_token"),
        add_eos=bool(metadata.flag("tokenizer.ggml.add_eos_token")),
        add_space_prefix=prefix is not False and model == SENTENCEPIECE,
        where=metadata.where,
    )


def _require_sound(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float], where: str
) -> None:
    def fail(what: str) -> SourceError:
        return SourceError(what, where=where, fix="The vocabulary is damaged; fetch it again.")

    if len(types) != len(tokens) or len(scores) not in (0, len(tokens)):
        raise fail("Tokens, token types and scores are not equally many.")
    if not all(0 <= kind <= BYTE for kind in types):
        raise fail("A token is of an unknown type.")
    if not all(map(math.isfinite, scores)):
        raise fail("A score is not finite.")
    seen = set()
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if not token:
            raise fail(f"Token {index:,} is empty.")
        if len(token) > MAX_TOKEN_BYTES or len(token.encode()) > MAX_TOKEN_BYTES:
            raise fail(f"Token {index:,} is longer than {MAX_TOKEN_BYTES:,} bytes.")
        if token in seen:
            raise fail(f"Token {index:,}, {shown(token)}, is there twice.")
        if kind == BYTE and not BYTE_TOKEN.fullmatch(token):
            raise fail(f"Token {index:,}, {shown(token)}, is no byte.")
        seen.add(token)


def _token_id(metadata: Metadata, key: str, count: int) -> int | None:
    value = metadata.integer(key)
    # Some converters write the largest number of the type for `none`.
    if value in (None, -1, 0xFFFFFFFF):
        return None
    if not 0 <= value < count:
        raise SourceError(
            f"The {key} {value:,} lies outside the vocabulary of {count:,}.", where=metadata.where
        )
    return value


def _default(value: int | None, default: int, count: int) -> int | None:
    return default if value is None and default < count else value
