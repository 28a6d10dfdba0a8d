"""The engine on the seed model: caches, batches, rotations, and the twin against the native
path.
"""

from __future__ import annotations

import numpy as np
import pytest

from h2q import kernels
from h2q.core.errors import KernelError, UsageError
from h2q.crystal import Crystal
from h2q.engine import Model, Sampler, generate, load_crystal, load_original
from h2q.engine.load import load_rotated
from h2q.sources import Source
from h2q.text import Tokenizer

PROMPTS = (
    "",
    "Once upon a time",
    "The captain looked at the sea and",
    "“I do not believe it,” said the",
    "CHAPTER I.\n\n",
    "In the middle of the night, the old house",
    "My dear Sir,",
    "The history of the empire begins with",
)
GREEDY_TOKENS = 96
STEPS = 6  # of the twins, one token of every prompt at a time


@pytest.fixture(scope="module")
def original(seed_source: Source) -> Model:
    return load_original(seed_source)


def tokens(model: Model, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, model.spec.vocab_size, shape)


def test_a_cache_changes_nothing(original: Model) -> None:
    ids = tokens(original, 2, 40)
    whole = original.forward(ids, original.new_cache(2))
    cache = original.new_cache(2, capacity=4)
    parts = [original.forward(ids[:, :7], cache)]
    parts += [original.forward(ids[:, i : i + 1], cache) for i in range(7, 40)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)


def test_rows_of_a_batch_do_not_see_each_other(original: Model) -> None:
    ids = tokens(original, 3, 20)
    together = original.forward(ids, original.new_cache(3))
    for row in range(3):
        alone = original.forward(ids[row : row + 1], original.new_cache())
        np.testing.assert_allclose(alone[0], together[row], atol=1e-4)


def test_rotating_changes_nothing(original: Model, seed_source: Source) -> None:
    """The isomorphism the crystal rests on, before any rounding: logits within 1e-4."""
    ids = tokens(original, 1, 256)
    rotated = load_rotated(seed_source, seed=11)
    expected = original.forward(ids, original.new_cache())
    found = rotated.forward(ids, rotated.new_cache())
    assert np.abs(found - expected).max() < 1e-4


def test_a_full_context_is_an_error_and_generation_ends_there(original: Model) -> None:
    limit = original.spec.max_position_embeddings
    cache = original.new_cache()
    prompt = [0] * (limit - 3)
    assert len(list(generate(original, prompt, Sampler(0), 50, cache=cache))) == 4
    with pytest.raises(UsageError, match="context"):
        original.forward(np.zeros((1, 1), np.int64), cache)
    with pytest.raises(UsageError, match="context"):
        list(generate(original, [0] * (limit + 1), Sampler(0), 1))


@pytest.mark.parametrize("bad", [-1, 1 << 40])
def test_foreign_tokens_are_refused(original: Model, bad: int) -> None:
    with pytest.raises(UsageError, match="vocabulary"):
        original.forward(np.array([[bad]]), original.new_cache())


def test_activations_that_are_not_finite_name_the_matrices(seed_crystal: Crystal) -> None:
    model = load_crystal(seed_crystal)
    x = np.ones((1, model.spec.hidden_size), np.float32)
    x[0, 5] = np.inf
    with pytest.raises(KernelError, match="finite") as caught:
        model.layers[2].attention.qkv(x)
    assert "model.layers.2.self_attn.k_proj.weight" in caught.value.where


def greedy(model: Model, rows: list[list[int]]) -> np.ndarray:
    """Greedy continuations of prompts of one length together: int64 (prompts, GREEDY_TOKENS)."""
    cache = model.new_cache(len(rows))
    feed = np.array(rows, np.int64)
    out = []
    for _ in range(GREEDY_TOKENS):
        feed = model.forward(feed, cache, last=True)[:, -1].argmax(axis=-1)[:, None]
        out.append(feed[:, 0])
    return np.stack(out, axis=1)


def test_twin_and_native_speak_the_same_words(seed_crystal: Crystal) -> None:
    """96 greedy tokens of 8 prompts, token for token; the logits of all of them in one go, and of
    the last steps from the cache, bit for bit.
    """
    model = load_crystal(seed_crystal)
    tokenizer = Tokenizer(seed_crystal.tokenizer_path)
    rows = [tokenizer.encode(prompt) for prompt in PROMPTS]
    shortest = min(len(row) for row in rows if len(row) > 1)
    rows = [(row * shortest)[:shortest] for row in rows]
    native = kernels.available()[0]
    with kernels.using(native):
        said = greedy(model, rows)
    whole = np.concatenate([np.array(rows), said], axis=1)

    def logits(path: str) -> list[np.ndarray]:
        """Of all tokens but the last few together, then of those, one step each."""
        steps = [whole[:, : -1 - STEPS], *np.split(whole[:, -1 - STEPS : -1], STEPS, axis=1)]
        cache = model.new_cache(len(rows))
        with kernels.using(path):
            return [model.forward(step, cache) for step in steps]

    expected = logits(kernels.NUMPY)
    for mine, twins in zip(logits(native), expected, strict=True):
        np.testing.assert_array_equal(mine, twins)
    words = np.concatenate(expected, axis=1)[:, shortest - 1 :].argmax(axis=-1)
    np.testing.assert_array_equal(words, said)
    assert len(np.unique(said)) > 20
