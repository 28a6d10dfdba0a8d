"""Folders of llamas with random weights, small enough to grow in a moment: what a growth promises
about bytes and divergence holds for any weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from h2q.core.specs import ModelSpec
from h2q.crystallize import Options
from h2q.sources import Source, open_source
from random_llama import SPEC, write_random_llama

SMALL = replace(
    SPEC,
    vocab_size=4096,  # the tokenizer's
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    tie_word_embeddings=True,
)
UNTIED = replace(SMALL, tie_word_embeddings=False)
# A growth of SMALL under these takes about a second.
BRIEF = Options(
    calibration_streams=4,
    calibration_length=64,
    judged_streams=2,
    measured_streams=4,
    measured_length=64,
)


def small_llama(folder: Path, spec: ModelSpec = SMALL, seed: int = 0) -> Source:
    """An opened folder of random weights."""
    write_random_llama(folder, spec, seed)
    return open_source(folder)
