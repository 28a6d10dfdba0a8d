"""llama.cpp runs what we export, and says the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gguf_files import RandomLlama, sentencepiece_words, write_gguf
from h2q.crystal import open_crystal
from h2q.crystallize.export import export_crystal, export_source
from h2q.engine import Model, Sampler, generate, load_crystal, load_original
from h2q.sources.gguf_file import GGUFSource
from h2q.text import Tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

PROMPTS = ["Once upon a time", "The sea was calm", "In the year", "He said that", "1866"]
TOKENS = 48
TIE = 0.002  # of logits that lie within +-20; seen: 0.00033


def theirs(path: Path, prompts: Sequence[str], ids: Sequence[list[int]]) -> list[list[int]]:
    """Greedy tokens of llama.cpp, which also finds the ids of the prompts itself. Its cache is
    float32, as ours is, so that near ties fall alike.
    """
    wide = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(str(path), n_ctx=128, type_k=wide, type_v=wide, verbose=False)
    out = []
    try:
        for prompt, expected in zip(prompts, ids, strict=True):
            assert model.tokenize(prompt.encode(), add_bos=True, special=True) == expected
            model.reset()
            step, found = list(expected), []
            for _ in range(TOKENS):
                model.eval(step)
                step = [int(np.argmax(model._ctx.get_logits_ith(-1)[: model.n_vocab()]))]
                found += step
            out.append(found)
    finally:
        model.close()
    return out


def ours(model: Model, ids: Sequence[list[int]]) -> list[list[int]]:
    return [[t for t, _ in generate(model, i, Sampler(temperature=0), TOKENS)] for i in ids]


def agreed(a: list[int], b: list[int]) -> int:
    """Tokens before the first that differs."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def gap(model: Model, prompt: list[int], a: list[int], b: list[int]) -> float:
    """Where two texts part: how far apart the logits of their next tokens are; 0 for equal ones.
    llama.cpp rounds inputs to float16, so that a tie may fall otherwise.
    """
    first = agreed(a, b)
    if first == len(a):
        return 0.0
    ids = np.array([[*prompt, *a[:first]]], np.int64)
    logits = model.forward(ids, model.new_cache(), last=True)[0, -1]
    return float(abs(logits[a[first]] - logits[b[first]]))


@pytest.mark.parametrize("groups", [0, None])
def test_a_crystal_in_f16(
    seed_path: Path,
    tmp_path: Path,
    groups: int | None,
    record_property: Callable[[str, float], None],
) -> None:
    crystal, target = open_crystal(seed_path), tmp_path / "seed.gguf"
    export_crystal(crystal, target, "f16", groups)
    tokenizer = Tokenizer(crystal.tokenizer_path)
    ids = [tokenizer.encode(prompt) for prompt in PROMPTS]
    found = theirs(target, PROMPTS, ids)
    original = load_original(GGUFSource(target))
    dense = ours(original, ids)
    gaps = [gap(original, *texts) for texts in zip(ids, found, dense, strict=True)]
    assert max(gaps) < TIE
    assert gaps.count(0.0) >= len(gaps) - 1
    whole = ours(load_crystal(crystal, groups), ids)
    shares = [agreed(a, b) / TOKENS for a, b in zip(found, whole, strict=True)]
    record_property("greedy tokens shared with the crystal", float(np.mean(shares)))
    print(f"largest gap of a tie {max(gaps):.5f}")
    print(f"groups {groups}: the crystal itself shares {np.mean(shares):.0%} of the greedy tokens")


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_an_original_with_pieces(tmp_path: Path, kind: str) -> None:
    words = sentencepiece_words()
    write_gguf(tmp_path / "a.gguf", RandomLlama(len(words.tokens), seed=4), words)
    source = GGUFSource(tmp_path / "a.gguf")
    export_source(source, tmp_path / "b.gguf", "pieces", kind)
    again = GGUFSource(tmp_path / "b.gguf")
    tokenizer = Tokenizer.from_json(source.tokenizer_json())
    ids = [tokenizer.encode(prompt) for prompt in PROMPTS]
    found = theirs(tmp_path / "b.gguf", PROMPTS, ids)
    if kind == "f32":
        assert found == ours(load_original(again), ids)
    else:  # llama.cpp rounds inputs to eight bits too, so that near ties may fall otherwise
        firsts = [a[0] == b[0] for a, b in zip(found, ours(load_original(again), ids), strict=True)]
        assert np.mean(firsts) >= 0.8
