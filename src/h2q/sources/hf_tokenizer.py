"""A tokenizer.json beside a model that has fewer rows than the tokenizer has names: Gemma 3 of text
alone comes with the name that stands for a picture, and whoever tunes a model may add one to pad.
"""

from __future__ import annotations

import json
import re

from h2q.core.errors import SourceError
from h2q.core.safetensors_header import parse_json

NUMBERED = re.compile(r'"id"\s*:\s*(\d{1,18})\b')


def without_rowless(text: str, vocab_size: int, where: str) -> str:
    """The text of a tokenizer.json without the added tokens that the model has no row for; they
    become letters like any other. The same text where there is none. Raises SourceError when the
    JSON is not valid.
    """
    # Whole tokenizers are parsed only where something may have to go.
    if not any(int(found[1]) >= vocab_size for found in NUMBERED.finditer(text)):
        return text
    document = parse_json(text.encode("utf-8"), where, SourceError)
    added = document.get("added_tokens")
    if not isinstance(added, list):
        return text
    kept = [row for row in added if not _is_rowless(row, vocab_size)]
    return json.dumps({**document, "added_tokens": kept}, ensure_ascii=False)


def _is_rowless(row: object, vocab_size: int) -> bool:
    index = row.get("id") if isinstance(row, dict) else None
    return isinstance(index, int) and index >= vocab_size
