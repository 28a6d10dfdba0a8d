"""Crystals of tiny models with experts: grown, read back from disk, running a token at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expert_configs import write_model
from h2q.core.architecture import coded
from h2q.crystal import open_crystal
from h2q.crystallize import ModelCrystallizationEngine
from h2q.crystallize.evaluate import compare
from h2q.engine import load_crystal, load_original
from h2q.sources import open_source
from small_llamas import BRIEF

VOCABULARY = 4096  # the tokenizer's


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_growing_and_running(name: str, tmp_path: Path) -> None:
    # A plane of fewer columns than 32 may take the same bytes at one bit as at two.
    ranks = {"q_lora_rank": 32, "kv_lora_rank": 32} if name == "deepseek_v3" else {}
    source = open_source(write_model(tmp_path / name, name, vocab_size=VOCABULARY, **ranks))
    options = replace(BRIEF, bits=8.5, calibration_streams=2)
    certificate = ModelCrystallizationEngine(source, options).grow(tmp_path / "crystal")
    crystal = open_crystal(tmp_path / "crystal")
    rows = {row["tensor"]: row for row in certificate["layers"]}
    assert list(rows) == [part.name for part in coded(source.spec)]
    seen = [row["tokens"] for tensor, row in rows.items() if ".experts." in tensor]
    assert seen
    assert max(seen) <= 2 * options.calibration_length
    assert not any("tokens" in row for tensor, row in rows.items() if ".experts." not in tensor)
    model, original = load_crystal(crystal), load_original(source)
    tokens = np.random.default_rng(2).integers(0, VOCABULARY, (2, 24))
    (found,) = compare(original, [model], tokens)
    assert found.kl_mean < 0.5 * found.loss_original
    whole = model.forward(tokens, model.new_cache(2))
    cache = model.new_cache(2, capacity=4)
    steps = [model.forward(tokens[:, i : i + 1], cache) for i in range(24)]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, atol=1e-3)
