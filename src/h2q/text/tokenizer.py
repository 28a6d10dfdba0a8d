"""tokenizer.json through the `tokenizers` library, with bounded reading and a decoder for streams
of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from h2q.core.errors import TextError
from h2q.core.files import read_bounded
from h2q.text.limits import failures, require_modest, require_sound_maps

MAX_TOKENIZER_BYTES = 256 << 20
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_PENDING = 16  # tokens; a character that is not complete by then never will be


class Tokenizer:
    """Text to ids and back. Raises TextError when the file is missing, damaged, or not a
    tokenizer.
    """

    def __init__(self, path: Path) -> None:
        data = read_bounded(path, MAX_TOKENIZER_BYTES, TextError)
        self._tokenizer = _parsed(data, path.name)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that the text of a tokenizer.json describes."""
        made = cls.__new__(cls)
        made._tokenizer = _parsed(text.encode("utf-8"), "tokenizer.json")
        return made

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included: one more than the largest id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def require_fit(self, vocab_size: int) -> None:
        """Raises TextError when the tokenizer can produce an id the model does not have."""
        if self.vocab_size > vocab_size:
            raise TextError(
                f"The tokenizer has {self.vocab_size:,} entries, the model {vocab_size:,}.",
                fix="They do not belong together; use the tokenizer the model was trained with.",
            )

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Ids of a text; `special` adds what the model expects around it (such as a first
        token). Raises TextError when the tokenizer's rules do not end on it.
        """
        with failures("a text"):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        with failures("what the model wrote"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def stream(self) -> TextStream:
        """A decoder for one stream of tokens."""
        return TextStream(self)


def _parsed(data: bytes, where: str) -> tokenizers.Tokenizer:
    require_sound_maps(data, where)
    with failures("its own file", where):
        parsed = tokenizers.Tokenizer.from_buffer(data)
    require_modest(parsed, where)
    parsed.no_padding()  # a file may ask for any length
    parsed.no_truncation()  # and must not cut a text silently
    return parsed


class TextStream:
    """Turns tokens into text as soon as it is printable; holds back incomplete UTF-8 characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._shown: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The text that became printable with this token; may be empty."""
        self._pending.append(token)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING:
            return ""
        self._settle()
        return text

    def flush(self) -> str:
        """What is left at the end, incomplete characters as replacement marks."""
        text = self._new_text() if self._pending else ""
        self._settle()
        return text

    def _new_text(self) -> str:
        # Some decoders treat the first token differently (a leading space), hence the difference of
        # two decodings.
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode(self._shown + self._pending)[len(before) :]

    def _settle(self) -> None:
        self._shown, self._pending = self._pending, []
