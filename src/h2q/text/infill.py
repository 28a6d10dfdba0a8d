"""Fill-in-the-middle prompts: what comes before and after, in the tokens the model was trained
with.

Prefix-suffix-middle order (Bavarian et al. 2022): <prefix> text <suffix> text <middle>, with the
names that each family gave the three tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h2q.core.errors import UsageError

if TYPE_CHECKING:
    from h2q.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class InfillTokens:
    """Names of the tokens before the prefix, between the parts, and after the suffix."""

    prefix: str
    suffix: str
    middle: str


SPELLINGS = (
    InfillTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    InfillTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    InfillTokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    InfillTokens("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
    InfillTokens("<PRE>", "<SUF>", "<MID>"),
    InfillTokens("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
)


def infill_tokens(tokenizer: Tokenizer) -> tuple[int, int, int] | None:
    """Ids of prefix, suffix and middle, None where the tokenizer has no such tokens."""
    for spelling in SPELLINGS:
        names = (spelling.prefix, spelling.suffix, spelling.middle)
        first, second, third = (tokenizer.token_id(name) for name in names)
        if first is not None and second is not None and third is not None:
            return first, second, third
    return None


def fim_prompt(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """Ids that ask for what belongs between two texts, the tokens around a text of this tokenizer
    included. Names of special tokens inside the texts are plain text.

    Raises UsageError when the tokenizer has no such tokens, TextError when a text cannot be
    encoded.
    """
    tokens = infill_tokens(tokenizer)
    if tokens is None:
        raise UsageError(
            "This model does not fill in the middle: its tokenizer has no tokens for it.",
            where="suffix",
            fix="Leave `suffix` out, or take a model for code (Qwen-Coder, StarCoder, CodeLlama).",
        )
    before, between, after = tokens
    return [
        *tokenizer.first_ids(),
        before,
        *tokenizer.encode_plain(prefix),
        between,
        *tokenizer.encode_plain(suffix, continues=True),
        after,
    ]
