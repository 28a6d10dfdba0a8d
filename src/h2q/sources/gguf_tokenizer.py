"""The vocabulary of a GGUF file as the text of a tokenizer.json, so that one library reads every
tokenizer.

The ids are llama.cpp's. One corner is not reachable: where two overlapping pairs give the same
token, llama.cpp takes the left one, the library the one that ranks first here.
"""

from __future__ import annotations

import json
from typing import Any

from h2q.core.errors import SourceError, shown
from h2q.sources.gguf_pretokenizers import PRE_TOKENIZERS, PreTokenizer
from h2q.sources.gguf_vocabulary import (
    BYTE,
    CONTROL,
    SENTENCEPIECE,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
)

SPACE = "▁"  # what SentencePiece writes for a space
Json = dict[str, Any]


def tokenizer_json(vocabulary: Vocabulary) -> str:
    """Raises SourceError on merges that name no tokens, and on words cut in an unknown way."""
    sentencepiece = vocabulary.model == SENTENCEPIECE
    pre = PreTokenizer((), first=True) if sentencepiece else _pre_tokenizer(vocabulary)
    parts = _sentencepiece(vocabulary) if sentencepiece else _byte_level(vocabulary, pre)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary),
        "post_processor": _post_processor(vocabulary, pre.first),
        **parts,
    }
    return json.dumps(document, ensure_ascii=False)


def _model(vocabulary: Vocabulary, merges: list[tuple[str, str]], **options: object) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(vocabulary.tokens)},
        "merges": merges,
        **options,
    }


def _sentencepiece(vocabulary: Vocabulary) -> Json:
    unknown = next((i for i, kind in enumerate(vocabulary.types) if kind == UNKNOWN), None)
    prefix = vocabulary.add_space_prefix
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, spaces] if prefix else [spaces]
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _model(
            vocabulary,
            merges_from_scores(vocabulary),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        ),
    }


def merges_from_scores(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every cut of a token into two tokens, best score of the whole first."""
    apart = {BYTE, CONTROL, UNKNOWN, USER_DEFINED}  # never seen by the merging of letters
    rows = zip(vocabulary.tokens, vocabulary.types, strict=True)
    ids = {token: index for index, (token, kind) in enumerate(rows) if kind not in apart}
    ranked = []
    for token, index in ids.items():
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        found = [(left, right) for left, right in cuts if left in ids and right in ids]
        found.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        ranked.append((-vocabulary.scores[index], index, found))
    ranked.sort(key=lambda row: row[:2])
    return [pair for _, _, found in ranked for pair in found]


def _byte_level(vocabulary: Vocabulary, pre: PreTokenizer) -> Json:
    splits: list[Json] = [
        {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        for pattern in pre.patterns
    ]
    level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {"type": "ByteLevel", **level}],
        },
        "decoder": {"type": "ByteLevel", **level},
        "model": _model(vocabulary, _merges(vocabulary), ignore_merges=pre.whole_words),
    }


def _pre_tokenizer(vocabulary: Vocabulary) -> PreTokenizer:
    if vocabulary.pre not in PRE_TOKENIZERS:
        raise SourceError(
            f"The rule {shown(vocabulary.pre)} for cutting words is not known to this version.",
            where=vocabulary.where,
            fix=f"Known: {', '.join(sorted(PRE_TOKENIZERS))}.",
        )
    return PRE_TOKENIZERS[vocabulary.pre]


def _merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    known = set(vocabulary.tokens)
    merges: dict[tuple[str, str], None] = {}
    for index, line in enumerate(vocabulary.merges):
        left, _, right = line.partition(" ") if line[:1] != " " else ("", "", "")
        if left not in known or right not in known or left + right not in known:
            raise SourceError(
                f"Merge {index:,}, {shown(line)}, does not make a token of two tokens.",
                where=vocabulary.where,
                fix="The vocabulary is damaged; fetch it again.",
            )
        merges[left, right] = None
    return list(merges)


def _added_tokens(vocabulary: Vocabulary) -> list[Json]:
    """Tokens that are found in a text before anything else is done to it."""
    return [
        {
            "id": index,
            "content": vocabulary.tokens[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != USER_DEFINED,
        }
        for index, kind in enumerate(vocabulary.types)
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]


def _post_processor(vocabulary: Vocabulary, first: bool) -> Json | None:
    add_bos = first if vocabulary.add_bos is None else vocabulary.add_bos
    around = {"bos": vocabulary.bos, "eos": vocabulary.eos}
    for name, wanted in (("bos", add_bos), ("eos", vocabulary.add_eos)):
        if wanted and around[name] is None:
            raise SourceError(
                f"The tokenizer adds a token around texts but names no {name}_token_id.",
                where=vocabulary.where,
            )
    before = [around["bos"]] if add_bos else []
    after = [around["eos"]] if vocabulary.add_eos else []
    if not before and not after:
        return None
    tokens = {index: vocabulary.tokens[index] for index in [*before, *after] if index is not None}

    def template(*texts: str) -> list[Json]:
        inner = [{"Sequence": {"id": text, "type_id": 0}} for text in texts]
        special = [
            [{"SpecialToken": {"id": tokens[i], "type_id": 0}} for i in ids if i is not None]
            for ids in (before, after)
        ]
        return [*special[0], *inner, *special[1]]

    return {
        "type": "TemplateProcessing",
        "single": template("A"),
        "pair": template("A", "B"),
        "special_tokens": {
            token: {"id": token, "ids": [index], "tokens": [token]}
            for index, token in tokens.items()
        },
    }
