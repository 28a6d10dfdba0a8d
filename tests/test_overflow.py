"""Weights that are each bearable and overflow float32 together: a growth says so and warns of
nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from h2q.core.errors import QualityError
from h2q.crystallize import ModelCrystallizationEngine
from h2q.crystallize.sensitivity import measure_sensitivity
from h2q.sources import Source
from small_llamas import BRIEF, small_llama


class Loud:
    """A source with some tensors many times louder."""

    def __init__(self, source: Source, factor: float, *parts: str) -> None:
        self._source, self._factor, self._parts = source, np.float32(factor), parts
        self.spec = source.spec
        self.tokenizer_json, self.chat_template = source.tokenizer_json, source.chat_template
        self.files = source.files

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        found = self._source.tensor(name)
        return found * self._factor if any(part in name for part in self._parts) else found


def test_words_that_overflow(tmp_path: Path) -> None:
    loud = Loud(small_llama(tmp_path / "llama"), 1e6, "norm", "proj")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(QualityError, match="not finite"):
            ModelCrystallizationEngine(loud, BRIEF).grow(tmp_path / "grown")
    assert not (tmp_path / "grown").exists()


@pytest.mark.parametrize(
    ("part", "factor", "what"),
    [
        ("layers.1", 1e12, "activations"),
        ("proj", 1e20, "activations"),
        ("norm", 1e18, "derivatives"),
        ("embed", 1e20, "derivatives"),
    ],
)
def test_sensitivities_that_overflow(tmp_path: Path, part: str, factor: float, what: str) -> None:
    loud = Loud(small_llama(tmp_path / "llama"), factor, part)
    tokens = np.arange(64, dtype=np.int64).reshape(2, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(QualityError, match=f"{what} are not finite"):
            measure_sensitivity(loud, tokens, 0)
