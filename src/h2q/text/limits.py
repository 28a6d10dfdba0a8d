"""What a foreign tokenizer may do to a text: rules that make a small text huge are refused before
the first word.

A tokenizer.json carries a little program (normalizer, pre-tokenizer, decoder). Its regular
expressions are bounded by the library, which gives up on a match with a panic; its replacements are
not: three rules that write 300 letters for one make 54 million of two.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tokenizers

from h2q.core.errors import H2QError, TextError
from h2q.core.safetensors_header import parse_json

MAX_GROWTH = 64  # bytes that all rules together may write for one
MAX_CHARSMAP = 4 << 20  # base64; that of SentencePiece is 0.3 MiB
MAX_DEPTH = 8
NEEDLESS_ESCAPE = re.compile(rb"\\u00[2-7]")  # of a printable letter of ASCII


@contextmanager
def failures(what: str, where: str = "") -> Iterator[None]:
    """What the library raises, bare Exceptions and panics, which are none, becomes TextError."""
    try:
        yield
    except (H2QError, MemoryError):  # a stop by the person among them
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise TextError(
            f"The tokenizer fails on {what}.",
            where=where,
            fix="Fetch tokenizer.json of the model again; its rules make no sense or do not end.",
        ) from error


def require_sound_maps(data: bytes, where: str) -> None:
    """Of the text of a tokenizer.json, before the library sees it: it believes the size a character
    map claims and asks for as much memory. Raises TextError. Costs a parse only where the text
    has a map, or could hide the name of one behind escapes that no writer makes.
    """
    if b"precompiled_charsmap" not in data and not NEEDLESS_ESCAPE.search(data):
        return
    rule = parse_json(data, where, TextError).get("normalizer")
    if rule is not None:
        _growth(rule, where)


def require_modest(tokenizer: tokenizers.Tokenizer, where: str) -> None:
    """Raises TextError when the normalizer or the decoder may make a text more than MAX_GROWTH
    times as long.
    """
    for part in (tokenizer.normalizer, tokenizer.decoder):
        if part is not None and _growth(json.loads(part.__getstate__()), where) > MAX_GROWTH:
            raise TextError(
                f"Rules of the tokenizer make a text more than {MAX_GROWTH} times as long.",
                where=where,
                fix="Fetch tokenizer.json of the model again.",
            )


def _growth(rule: Any, where: str, depth: int = 0) -> int:
    if not isinstance(rule, dict) or depth > MAX_DEPTH:
        raise TextError("The rules of the tokenizer are malformed or too deep.", where=where)
    if rule.get("type") == "Replace":
        return max(1, len(str(rule.get("content")).encode("utf-8", "replace")))
    if rule.get("type") == "Precompiled":
        return _longest(str(rule.get("precompiled_charsmap")), where)
    growth = 1
    inner_rules = rule.get("normalizers", rule.get("decoders", []))
    for inner in inner_rules if isinstance(inner_rules, list) else []:
        growth = min(growth * _growth(inner, where, depth + 1), MAX_GROWTH + 1)
    return growth


def _longest(charsmap: str, where: str) -> int:
    """Of a map as SentencePiece stores it: size of a trie (u32), the trie, then what is written,
    ended by NULs.
    """
    try:
        data = base64.b64decode(charsmap, validate=True) if len(charsmap) <= MAX_CHARSMAP else b""
    except ValueError:
        data = b""
    trie = int.from_bytes(data[:4], "little")
    if len(data) < 4 + trie:
        raise TextError("The character map of the tokenizer is malformed.", where=where)
    return max(1, *map(len, data[4 + trie :].split(b"\0")))
