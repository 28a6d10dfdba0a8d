"""Sensitivities of the seed model against the divergence that noise really causes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from h2q.core.architecture import EMBEDDING, coded
from h2q.crystallize import compare, sample_text
from h2q.crystallize.allocate import Judge, kind
from h2q.crystallize.evaluate import log_probabilities
from h2q.crystallize.sensitivity import Sensitivity, measure_sensitivity
from h2q.engine import load_original
from h2q.sources import Source

NOISY = (
    "model.layers.0.self_attn.v_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.2.self_attn.q_proj.weight",
    "model.layers.3.self_attn.k_proj.weight",
    "model.layers.3.mlp.gate_proj.weight",
    "model.layers.4.self_attn.o_proj.weight",
    "model.layers.5.mlp.up_proj.weight",
    EMBEDDING,
)
SHARE = 0.01  # of a tensor's power


class Noisy:
    """A source with white noise on one tensor, in every row in proportion to it."""

    def __init__(self, source: Source, name: str, share: float) -> None:
        self.inner, self.name, self.share = source, name, share
        self.spec = source.spec

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        found = self.inner.tensor(name)
        if name != self.name:
            return found
        noise = np.random.default_rng(5).standard_normal(found.shape)
        size = np.sqrt(self.share * np.mean(found**2, axis=1, keepdims=True))
        return (found + size * noise).astype(np.float32)

    def tokenizer_json(self) -> str:
        return self.inner.tokenizer_json()

    def chat_template(self) -> str | None:
        return self.inner.chat_template()

    def files(self) -> tuple[Path, ...]:
        return self.inner.files()


@pytest.fixture(scope="module")
def text(seed_source: Source) -> npt.NDArray[np.int64]:
    return sample_text(load_original(seed_source), 8, 80, seed=9)


@pytest.fixture(scope="module")
def found(seed_source: Source, text: npt.NDArray[np.int64]) -> Sensitivity:
    return measure_sensitivity(seed_source, text, seed=0)


def test_every_tensor_has_its_rows(seed_source: Source, found: Sensitivity) -> None:
    for part in coded(seed_source.spec):
        rows = part.tensor.shape[0]
        assert found.rows[part.tensor.name].shape == found.norms[part.tensor.name].shape == (rows,)
        assert (found.rows[part.tensor.name] >= 0).all()
        assert found.power[part.tensor.reads] > 0
        assert 0 < found.shaping[part.tensor.reads] <= 1
    assert found.embedding.shape == (seed_source.spec.vocab_size,)


def test_the_spread_of_the_head_is_that_of_the_model(
    seed_source: Source, text: npt.NDArray[np.int64], found: Sensitivity
) -> None:
    """The mean of p (1 - p) over all positions, from the whole model's words."""
    longer = np.concatenate([text, text[:, :1]], axis=1)  # the last token is not read
    share = np.exp(log_probabilities(load_original(seed_source), longer).astype(np.float64))
    np.testing.assert_allclose(
        found.rows[EMBEDDING], np.mean(share * (1 - share), axis=0), rtol=1e-3, atol=1e-7
    )


def test_only_tokens_of_the_text_are_looked_up(
    text: npt.NDArray[np.int64], found: Sensitivity
) -> None:
    read = np.zeros(len(found.embedding), bool)
    read[text] = True
    assert (found.embedding[read] > 0).all()
    assert not found.embedding[~read].any()


@pytest.mark.parametrize("name", NOISY)
def test_the_loss_that_noise_causes_is_foretold(
    seed_source: Source, text: npt.NDArray[np.int64], found: Sensitivity, name: str
) -> None:
    """Within a factor of two, whatever the kind of the tensor: half the Fisher information's form
    against the measured divergence.
    """
    identity = 2.0
    judge = Judge(seed_source.spec, found, identity, {})
    tied = 1 + identity if name == EMBEDDING else 1.0  # of a tied embedding's cost is its identity
    foretold = 0.0
    for part in coded(seed_source.spec):
        if part.tensor.name == name:
            rows = slice(part.begin, part.begin + part.shape[0])
            costs = SHARE * found.norms[name][rows] * found.power[part.tensor.reads] * tied
            foretold += float(judge.row_weights(part) @ costs)
    original = load_original(seed_source)
    (measured,) = compare(original, [load_original(Noisy(seed_source, name, SHARE))], text)
    assert measured.kl_mean > 1e-5
    assert 0.5 < foretold / measured.kl_mean < 2


def test_corrections_are_by_kind(seed_source: Source, found: Sensitivity) -> None:
    plain = Judge(seed_source.spec, found, 2.0, {})
    corrected = Judge(seed_source.spec, found, 2.0, {"down_proj": 3.0})
    for part in coded(seed_source.spec):
        factor = 3.0 if kind(part) == "down_proj" else 1.0
        expected = factor * plain.row_weights(part)
        np.testing.assert_allclose(corrected.row_weights(part), expected)
        assert corrected.foretold(part, 2) == pytest.approx(factor * plain.foretold(part, 2))
