"""Text out of a stream of tokens, never in the middle of a character, each token at one cost.

Two decoders. Byte-level vocabularies (GPT-2 and most since) are a table from tokens to bytes, so a
UTF-8 decoder that waits for whole characters is all there is to do. Every other tokenizer has rules
of its own about neighbours (SentencePiece drops the first space, bytes join into characters), so
there the text is the difference of two decodings of a short window.

Special tokens are left out, but for those the caller wants `kept`: some dialects mark calls so.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Collection, Mapping, Sequence

import tokenizers

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_PENDING = 16  # tokens; a character that is not complete by then never will be


def is_byte_level(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether tokens are bytes in the letters of GPT-2 and nothing is done to the text after."""
    if tokenizer.decoder is None:
        return False
    rule = json.loads(tokenizer.decoder.__getstate__())
    inner = rule.get("decoders") if rule.get("type") == "Sequence" else [rule]
    return isinstance(inner, list) and [part.get("type") for part in inner] == ["ByteLevel"]


def _letters() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 letters stand for themselves, other bytes for the
    letters from U+0100 on, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if chr(byte) not in table)
    return {**table, **{chr(0x100 + index): byte for index, byte in enumerate(others)}}


LETTERS = _letters()


class ByteStream:
    """For byte-level vocabularies: equal to decoding all tokens at once, whatever they are."""

    def __init__(
        self,
        name: Callable[[int], str | None],
        special: Collection[int],
        kept: Mapping[int, str],
    ) -> None:
        self._name, self._special, self._kept = name, special, kept
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that became printable with this token; may be empty."""
        if token in self._special:
            return self.flush() + self._kept[token] if token in self._kept else ""
        name = self._name(token)
        if name is None:  # an id of the model that the tokenizer does not have
            return ""
        try:
            data = bytes(map(LETTERS.__getitem__, name))
        except KeyError:  # an added token is written as it is
            data = name.encode("utf-8")
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end, incomplete characters as replacement marks."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class TextStream:
    """For any other tokenizer, by its own `decode`: equal to decoding all tokens at once as long
    as bytes make characters.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        special: Collection[int],
        kept: Mapping[int, str],
    ) -> None:
        self._decode, self._special, self._kept = decode, special, kept
        self._shown: list[int] = []
        self._pending: list[int] = []
        self._before = ""  # the text of _shown

    def push(self, token: int) -> str:
        """The text that became printable with this token; may be empty."""
        if token in self._special:
            return self.flush() + self._kept[token] if token in self._kept else ""
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
        text = self._decode(self._shown + self._pending)
        if self._before and not text.startswith(self._before):
            # A run of bytes that is no character spoils whole ones before it: read it alone.
            return self._decode(self._pending)
        return text[len(self._before) :]

    def _settle(self) -> None:
        if self._pending:
            self._shown, self._pending = self._pending, []
            self._before = self._decode(self._shown)
