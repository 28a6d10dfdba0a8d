"""A tokenizer.json as the vocabulary of a GGUF file.

Two kinds have a form there: byte-level pairs (`gpt2`), whose rule for cutting words is found by
behaviour, and SentencePiece's (`llama`), whose order of merges becomes scores. What was made is
read back as GGUF files are read and must give the ids of the tokenizer it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers

from h2q.core.errors import TextError
from h2q.core.safetensors_header import parse_json
from h2q.core.specs import ModelSpec
from h2q.sources.gguf_pretokenizers import PRE_TOKENIZERS, PreTokenizer
from h2q.sources.gguf_tokenizer import SPACE, merges_from_scores, tokenizer_json
from h2q.sources.gguf_vocabulary import (
    BYTE,
    BYTE_LEVEL,
    BYTE_TOKEN,
    CONTROL,
    NORMAL,
    SENTENCEPIECE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
)
from h2q.text import Tokenizer

Json = dict[str, Any]
Merges = list[tuple[str, str]]
WHERE = "tokenizer.json"
# What the rules for cutting words differ in: contractions, runs of digits, of signs and of spaces,
# ends of lines, capitals within a word, scripts without spaces.
PROBE = (
    "Hello, world! It's 2026; they'll've IT'S DON'T we'Re o'clock.",
    "1234567890 12 345 6.7e8 x86_64 3rd",
    "   x   y  \n\n\n \n\t\t\r\n x\r\n  end ",
    "def f(x):\n    return x ** 2  # comment\n\n\tif x:\n\t\tpass\n",
    "camelCase SCREAMING_SNAKE MixedUP iPhone\n/a/b//c/\n===//\n",
    "«Ämter» naïve café ελληνικά русский текст",
    "中文字符，測試。日本語カタカナ 한국어 12月34日",
    "$+<=>^`|~ !\"#%&'()*,-./:;?@[\\]_{} ...!!!???\n\n--->",
    "العربية हिन्दी ไทย 🙂",
)


def vocabulary(text: str, spec: ModelSpec) -> Vocabulary:
    """The vocabulary of a tokenizer.json for a model with `spec.vocab_size` rows; rows without a
    token become unused ones. Raises TextError where a GGUF file has no form for the tokenizer.
    """
    Tokenizer.from_json(text).require_fit(spec.vocab_size)
    document = parse_json(text.encode("utf-8"), WHERE, TextError)
    tokenizer = tokenizers.Tokenizer.from_str(text)
    model = document["model"]
    if model.get("type", "BPE") != "BPE":
        raise _formless(f"The tokenizer is of the kind {model['type']}")
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise _formless(f"The tokenizer uses {option}")
    byte_level = '"ByteLevel"' in json.dumps(document.get("pre_tokenizer"))
    if not byte_level and not model.get("byte_fallback"):
        raise _formless("The tokenizer works on letters, not on bytes or SentencePiece's pieces")
    tokens, types = _tokens(tokenizer, document, spec.vocab_size)
    merges = [_merge(entry) for entry in model["merges"]]
    before, after = _around(tokenizer)
    stops = tuple(dict.fromkeys([*after, *spec.eos_token_ids]))
    made = Vocabulary(
        model=BYTE_LEVEL if byte_level else SENTENCEPIECE,
        pre=_rule(tokenizer, bool(model.get("ignore_merges"))) if byte_level else "default",
        tokens=tokens,
        types=types,
        scores=() if byte_level else _scores(tokens, merges),
        merges=_lines(merges) if byte_level else (),
        bos=before[0] if before else spec.bos_token_id,
        eos=stops[0] if stops else None,
        stops=stops,
        add_bos=bool(before),
        add_eos=bool(after),
        add_space_prefix=not byte_level and _begins_with_space(tokenizer),
        where=WHERE,
    )
    if not byte_level:
        _require_same_order(made, merges)
    _require_same_ids(tokenizer, made)
    return made


def _formless(what: str) -> TextError:
    return TextError(f"{what}; GGUF files have no form for it.", where=WHERE)


def _tokens(
    tokenizer: tokenizers.Tokenizer, document: Json, size: int
) -> tuple[list[str], list[int]]:
    """Texts and types by id."""
    model = document["model"]
    tokens = [""] * size
    known = tokenizer.get_vocab(with_added_tokens=True)
    for token, index in known.items():
        tokens[index] = token
    types = [NORMAL] * size
    for added in document.get("added_tokens", ()):
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    for index, token in enumerate(tokens):
        if not token:
            tokens[index], types[index] = _unused(index, known), UNUSED
        elif model.get("byte_fallback"):
            if token == model.get("unk_token"):
                types[index] = UNKNOWN
            elif BYTE_TOKEN.fullmatch(token):
                types[index] = BYTE
    return tokens, types


def _unused(index: int, known: dict[str, int]) -> str:
    name = f"[PAD{index}]"
    while name in known:
        name = f"[{name}]"
    return name


def _merge(entry: str | Sequence[str]) -> tuple[str, str]:
    left, right = entry.split(" ", 1) if isinstance(entry, str) else entry
    return left, right


def _lines(merges: Merges) -> list[str]:
    if any(" " in part for pair in merges for part in pair):
        raise _formless("A merge holds a space")
    return [" ".join(pair) for pair in merges]


def _around(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Tokens that are put before and after a text: one of each at most."""
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(inner)] == inner), None)
    before, after = (whole, []) if at is None else (whole[:at], whole[at + len(inner) :])
    if at is None or len(before) > 1 or len(after) > 1:
        raise _formless("The tokenizer puts several tokens around a text")
    return before, after


@cache
def _cutter(rule: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    splits = [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in rule.patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*splits, level])


def _rule(tokenizer: tokenizers.Tokenizer, whole_words: bool) -> str:
    """The name of the rule that cuts the probe as the tokenizer does."""
    cuts = _cuts(tokenizer.pre_tokenizer)
    for name, rule in PRE_TOKENIZERS.items():
        if rule.whole_words == whole_words and _cuts(_cutter(rule)) == cuts:
            return name
    raise _formless("The tokenizer cuts words in a way of its own")


def _cuts(cutter: pre_tokenizers.PreTokenizer) -> list[list[str]]:
    return [[piece for piece, _ in cutter.pre_tokenize_str(line)] for line in PROBE]


def _begins_with_space(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether SentencePiece's space is put before a text."""
    text = "x y"
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is not None:
        text = "".join(piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    if text.lstrip(SPACE) != f"x{SPACE}y":
        raise _formless("The tokenizer writes spaces in a way of its own")
    return text.startswith(SPACE)


def _scores(tokens: Sequence[str], merges: Merges) -> list[float]:
    """The earlier a token is merged, the higher its score; what is never merged comes last."""
    ranks: dict[str, float] = {}
    for left, right in merges:
        ranks.setdefault(left + right, -float(len(ranks)))
    return [ranks.get(token, -float(len(tokens))) for token in tokens]


def _require_same_order(made: Vocabulary, merges: Merges) -> None:
    """Scores say which token is merged first, not which pair."""
    found = merges_from_scores(made)
    same = [a + b for a, b in found] == [a + b for a, b in merges] and set(found) == set(merges)
    if not same:
        raise _formless("The tokenizer's merges are not in the order of any scores")


def _require_same_ids(tokenizer: tokenizers.Tokenizer, made: Vocabulary) -> None:
    again = Tokenizer.from_json(tokenizer_json(made))
    for line in PROBE:
        # Newer files leave SentencePiece's space away before a space; SentencePiece, and llama.cpp
        # after it, do not.
        text = line.lstrip(" ") if made.model == SENTENCEPIECE else line
        if again.encode(text) != tokenizer.encode(text).ids:
            raise _formless(f"The tokenizer has a rule of its own for texts such as {text!r}")
