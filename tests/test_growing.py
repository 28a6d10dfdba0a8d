"""What large models do to save time gives what small ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from h2q.core.architecture import coded
from h2q.core.events import silent
from h2q.crystallize import Options, SpectralStabilityController, growth
from h2q.crystallize.growing import HeardWeights
from h2q.crystallize.growth import Growth
from h2q.crystallize.towers import COMMIT, LOOKAHEAD
from h2q.sources import Source
from small_llamas import small_llama

TOKENS = np.random.default_rng(0).integers(0, 4096, (3, 16))


def grown(source: Source) -> dict[str, np.ndarray]:
    """Costs of every part, by name."""
    planned = {part.name: 4 for part in coded(source.spec)}
    head = np.eye(source.spec.hidden_size, dtype=np.float32)
    found = Growth(source, Options(), silent, TOKENS, head)
    return {
        name: part.costs
        for name, part in found.grow(planned, SpectralStabilityController()).items()
    }


def test_answers_that_were_kept_are_those_that_would_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_llama(tmp_path / "model")
    known = grown(source)
    made: list[HeardWeights] = []

    class Kept(HeardWeights):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(growth, "LARGE", 1)
    monkeypatch.setattr(growth, "LARGE_COMMIT", COMMIT)
    monkeypatch.setattr(growth, "LARGE_LOOKAHEAD", LOOKAHEAD)
    monkeypatch.setattr(growth, "HeardWeights", Kept)
    found = grown(source)
    assert len(made) == source.spec.num_hidden_layers
    assert not any(weights.answers for weights in made)  # all were used
    for name, costs in known.items():
        np.testing.assert_allclose(found[name].sum(), costs.sum(), rtol=0.02, err_msg=name)
