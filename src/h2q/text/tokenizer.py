"""tokenizer.json through the `tokenizers` library, with bounded reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from h2q.core.errors import TextError
from h2q.core.files import read_bounded
from h2q.text.byte_pairs import from_tables
from h2q.text.limits import failures, require_modest, require_sound_maps
from h2q.text.stream import ByteStream, TextStream, is_byte_level

MAX_TOKENIZER_BYTES = 256 << 20
SPACE = "▁"  # what SentencePiece writes for a space
MARK = "\N{WHITE SMILING FACE}"  # merges with nothing; Code Llama's own code uses it so


class Tokenizer:
    """Text to ids and back. Raises TextError when the file is missing, damaged, or not a
    tokenizer.
    """

    _plain: tokenizers.Tokenizer | None = None
    _leads = False
    _special: frozenset[int] | None = None
    _byte_level: bool | None = None
    _vocab_size: int | None = None

    def __init__(self, path: Path) -> None:
        self._read(read_bounded(path, MAX_TOKENIZER_BYTES, TextError), path.name)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that the text of a tokenizer.json describes."""
        made = cls.__new__(cls)
        made._read(text.encode("utf-8"), "tokenizer.json")
        return made

    def _read(self, data: bytes, where: str) -> None:
        require_sound_maps(data, where)
        parsed = _from_tables(data)
        if parsed is None:
            with failures("its own file", where):
                parsed = tokenizers.Tokenizer.from_buffer(data), None
        self._tokenizer, self._vocab_size = parsed
        require_modest(self._tokenizer, where)
        self._tokenizer.no_padding()  # a file may ask for any length
        self._tokenizer.no_truncation()  # and must not cut a text silently

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included: one more than the largest id."""
        if self._vocab_size is None:
            ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
            self._vocab_size = max(ids, default=-1) + 1
        return self._vocab_size

    def require_fit(self, vocab_size: int) -> None:
        """Raises TextError when the tokenizer can produce an id the model does not have."""
        fix = "They do not belong together; use the tokenizer the model was trained with."
        if self.vocab_size > vocab_size:
            raise TextError(
                f"The tokenizer has {self.vocab_size:,} entries, the model {vocab_size:,}.", fix=fix
            )
        if (largest := max(self.encode("a"), default=0)) >= vocab_size:  # its own table of ids
            raise TextError(
                f"The tokenizer puts token {largest:,} around a text, the model has "
                f"{vocab_size:,}.",
                fix=fix,
            )

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Ids of a text; `special` adds what the model expects around it (such as a first
        token). Raises TextError when the tokenizer's rules do not end on it.
        """
        with failures("a text"):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def encode_plain(self, text: str, continues: bool = False) -> list[int]:
        """Ids of a text in which names of special tokens are letters like any other, nothing
        around it. `continues`: no space is put before it, as SentencePiece does at a begin.
        """
        if self._plain is None:
            with failures("its own file"):
                self._plain = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
            self._plain.encode_special_tokens = True
            first = self._plain.encode("a", add_special_tokens=False).tokens[:1]
            self._leads = bool(first) and first[0].startswith(SPACE)
        plain = self._plain
        with failures("a text"):
            ids: list[int] = plain.encode(text, add_special_tokens=False).ids
            if continues and self._leads:
                mark: list[int] = plain.encode(MARK, add_special_tokens=False).ids
                after: list[int] = plain.encode(MARK + text, add_special_tokens=False).ids
                return after[len(mark) :] if after[: len(mark)] == mark else ids
        return ids

    def first_ids(self) -> list[int]:
        """What the model expects before a text."""
        bare, full = self.encode("a", special=False), self.encode("a")
        for at in range(len(full) - len(bare) + 1):
            if full[at : at + len(bare)] == bare:
                return full[:at]
        return []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        with failures("what the model wrote"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def stream(self, keep: Sequence[str] = ()) -> TextStream | ByteStream:
        """A decoder for one stream of tokens. Special tokens are left out but for those named in
        `keep`, such as the tags of a dialect's calls.
        """
        special = self._special_ids()
        ids = {self.token_id(name): name for name in keep}
        kept = {index: name for index, name in ids.items() if index is not None}
        if self._is_byte_level():
            return ByteStream(self._tokenizer.id_to_token, special, kept)
        return TextStream(self.decode, special, kept)

    def added_names(self) -> frozenset[str]:
        """Names of all added tokens, special or not."""
        return frozenset(
            token.content for token in self._tokenizer.get_added_tokens_decoder().values()
        )

    def token_id(self, text: str) -> int | None:
        """The id of one token by its own name, None where there is none."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def token_name(self, token: int) -> str:
        """The name of one token, "" where there is none."""
        return self._tokenizer.id_to_token(token) or ""

    def to_json(self) -> str:
        """The text of a tokenizer.json that means the same."""
        text: str = self._tokenizer.to_str()
        return text

    def _special_ids(self) -> frozenset[int]:
        if self._special is None:
            added = self._tokenizer.get_added_tokens_decoder()
            self._special = frozenset(index for index, token in added.items() if token.special)
        return self._special

    def _is_byte_level(self) -> bool:
        if self._byte_level is None:
            self._byte_level = is_byte_level(self._tokenizer)
        return self._byte_level


def _from_tables(data: bytes) -> tuple[tokenizers.Tokenizer, int | None] | None:
    """The tokenizer and its number of ids; None where only the library can read it, or can say what
    is wrong.
    """
    try:
        with failures("its own file"):
            found = from_tables(data)
    except TextError:
        return None
    return None if found is None else (found[0], found[1] + 1)
