"""Token ids of GGUF vocabularies against llama.cpp reading the same file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_files import (
    RandomLlama,
    Words,
    byte_level_words,
    sentencepiece_words,
    stories_words,
    write_gguf,
)
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.gguf_pretokenizers import PRE_TOKENIZERS
from h2q.text import Tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ROOT = Path(__file__).parents[2]
TEXTS = [
    "",
    " ",
    "  ",
    "   x   y  ",
    "\n",
    "\n\n\n \n\t\t\r\n x\r\n",
    "Hello, world! It's 2026; they'll've IT'S DON'T we'Re.",
    "1234567890 12 345 6.7e8 ½ ² Ⅷ ٣٤٥",
    "def f(x):\n    return x ** 2  # comment\n\n\tif x:\n\t\tpass",
    "<s>Once</s> upon <unk> a time<|endoftext|>",
    "camelCase SCREAMING_SNAKE MixedUP iPhone LaTeX",
    "«ÄÖÜ» naïve café ελληνικά РУССКИЙ текст ქართული 中文字符，測試。日本語カタカナ 한국어",
    "العربية हिन्दी ไทย 🙂👩‍👩‍👧‍👦🏳️‍🌈 𝔘𝔫𝔦 𐐷 e\u0301 a\u0308\u0323",
    "\u00a0nbsp\u2003em\u3000wide\u200bzero\u0085next\u2028line",
    "▁already▁there ▁ x",
    "$+<=>^`|~ !\"#%&'()*,-./:;?@[\\]_{}",
    "a" * 300 + " " * 40 + "-" * 70,
    "///////// \\\\\\ ....... ======",
]
letters = st.one_of(
    st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"),
    st.sampled_from("  \n\r\t'sStTreRE0123abAB._-/▁éЖ中한"),
)


class Pair:
    """Both tokenizers of one file."""

    def __init__(self, path: Path) -> None:
        self.ours = Tokenizer.from_json(GGUFSource(path).tokenizer_json())
        self.theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def check(self, text: str) -> None:
        expected = self.theirs.tokenize(text.encode(), add_bos=True, special=True)
        assert self.ours.encode(text) == expected, repr(text)


@contextmanager
def pair(folder: Path, words: Words) -> Iterator[Pair]:
    path = folder / "model.gguf"
    write_gguf(path, RandomLlama(len(words.tokens), tied=True, width=16), words)
    both = Pair(path)
    try:
        yield both
    finally:
        both.theirs.close()


def longer_texts() -> list[str]:
    return [
        (ROOT / "CONTRIBUTING.md").read_text(),
        (ROOT / "README.zh.md").read_text(),
        (ROOT / "docs" / "format.md").read_text(),
        Path(__file__).read_text(),
    ]


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_byte_level(tmp_path: Path, pre: str) -> None:
    with pair(tmp_path, byte_level_words(pre)) as both:
        for text in [*TEXTS, *longer_texts()]:
            both.check(text)

        @settings(
            max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(text=st.text(letters, max_size=30))
        def any_text(text: str) -> None:
            both.check(text)

        any_text()


@pytest.mark.parametrize("kind", ["trained", "stories260K"])
def test_sentencepiece(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "trained":
        words = sentencepiece_words()
    else:
        words = stories_words(request.getfixturevalue("shared") / "models" / "stories260K")
    with pair(tmp_path, words) as both:
        for text in [*TEXTS, *longer_texts()]:
            both.check(text)

        @settings(
            max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(text=st.text(letters, max_size=30))
        def any_text(text: str) -> None:
            both.check(text)

        any_text()
