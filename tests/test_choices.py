"""The benches of `benchmarks/choices.py` and `benchmarks/stability.py` measure the network that was
grown, on a small one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import stability
from choices import SHARES, Bench
from common_start import CommonStart
from h2q.core.architecture import coded
from h2q.sources import open_source
from small_llamas import BRIEF, SMALL, small_llama
from twin import write_twin

HELD_OUT = np.random.default_rng(0).integers(0, SMALL.vocab_size, (2, 64))
NEAR = 0.2  # nats: four bits of random weights lose 0.1, one model's planes in another's norms 0.9


def test_norms_and_planes_are_of_one_model(tmp_path: Path) -> None:
    """Of a twin with loud channels."""
    write_twin(small_llama(tmp_path / "small"), tmp_path / "twin")
    start = CommonStart(open_source(tmp_path / "twin"), tmp_path, BRIEF)
    bench, growth, judge = Bench(start, HELD_OUT), start.growth(), start.judge()
    found = bench.measure(growth, judge, {part.name: 4 for part in coded(SMALL)})
    whole = bench.result("four bits", found)
    assert all(text["kl_mean"] < NEAR for text in whole["texts"].values())
    orders = bench.orders(growth, judge, found)
    for share in SHARES:
        assert orders[f"{share:g} of the refinements, without priorities"]["bytes"] < whole["bytes"]


def test_orders_of_planes_are_compared_at_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability, "OPTIONS", BRIEF)
    fragile = stability.Fragile(small_llama(tmp_path / "small"), 1, 4.0)
    found = stability.compared(fragile, tmp_path, HELD_OUT)
    orders = found["orders"]
    assert list(orders) == ["without", "with", "strict"]
    for share in map(str, stability.SHARES):
        sizes = [order["at_shares"][share]["bytes"] for order in orders.values()]
        assert max(sizes) - min(sizes) < 0.05 * min(sizes)
    most = orders["without"]["at_shares"]["0.75"]["kl_mean"]
    assert 0 < most < orders["without"]["at_shares"]["0.25"]["kl_mean"]
