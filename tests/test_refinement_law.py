"""A law: a running model gets better with every group that comes in, on a text nobody calibrated
with.
"""

from __future__ import annotations

import lzma
from itertools import pairwise
from pathlib import Path

import numpy as np

from h2q.crystallize.evaluate import compare
from h2q.engine import load_original
from h2q.runtime.staged import Staged
from h2q.runtime.starting import start
from h2q.runtime.worker import Order
from h2q.sources import Source

PREFIXES, ALLOWED_FALL = 8, 0.002
ROWS, LENGTH = 5, 256


def test_quality_rises_along_the_refinement(
    seed_source: Source, seed_path: Path, shared: Path
) -> None:
    with lzma.open(shared / "data" / "gutenberg-valid.txt.xz") as file:
        file.read(200_000)
        text = file.read(40_000).decode("utf-8", "ignore")
    started = start(Order(str(seed_path)), small=0)
    assert isinstance(started, Staged)
    tokens = np.array(started.tokenizer.encode(text)[: ROWS * LENGTH]).reshape(ROWS, LENGTH)
    original, qualities = load_original(seed_source), []
    assert started.all_planes >= PREFIXES
    for planes in np.linspace(1, started.all_planes, PREFIXES).round().astype(int).tolist():
        started.pin(planes)
        started.between_steps()
        assert started.planes == planes
        qualities.append(compare(original, [started.model], tokens)[0].quality)
    started.close()
    falls = [1 - after / before for before, after in pairwise(qualities)]
    assert max(falls) <= ALLOWED_FALL
    assert qualities[-1] > qualities[0] * 1.05
