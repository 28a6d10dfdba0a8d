"""Growing layer by layer: what is kept of the original, and what large models do otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from h2q.core.architecture import coded
from h2q.core.events import silent
from h2q.crystallize import Options, SpectralStabilityController, growth
from h2q.crystallize.growing import HeardWeights
from h2q.crystallize.growth import Growth
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


def test_a_large_model_is_grown_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for how far it is searched."""
    source = small_llama(tmp_path / "model")
    known = grown(source)
    monkeypatch.setattr(growth, "LARGE", 1)
    found = grown(source)
    assert any(not np.array_equal(found[name], costs) for name, costs in known.items())
    for name, costs in known.items():
        np.testing.assert_allclose(found[name].sum(), costs.sum(), rtol=0.1, err_msg=name)


def test_what_the_original_sent_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_llama(tmp_path / "model")
    made: list[HeardWeights] = []

    class Kept(HeardWeights):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

        def hear(self, reads: str, x: np.ndarray) -> None:
            super().hear(reads, x)
            adding = {tensor.reads for tensor in self.table.values() if tensor.adds}
            assert (reads in self.heard.inputs) != (reads in adding)

    monkeypatch.setattr(growth, "HeardWeights", Kept)
    grown(source)
    assert len(made) == source.spec.num_hidden_layers
    assert not any(weights.heard.answers or weights.heard.inputs for weights in made)
