"""Who needs fewer bytes: the arithmetic behind `make bench-quality`, and its drawing."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from h2q.crystallize import Comparison
from quality_frontier import Entry, at_ratios, frontier, verdicts
from quality_plot import drawing

WEIGHTS = 1_000_000


def entry(name: str, size: int, loss: float) -> Entry:
    found = {"text": Comparison(100, 3.0, 3.0 + loss, loss, 4 * loss, 9 * loss, 0.9, 0.1)}
    return Entry(name, size, size + 10, size - 10, 2.0, found)


OURS = [
    entry("a +0", 300_000, 0.2),
    entry("a +1", 330_000, 0.1),
    entry("b +0", 320_000, 0.15),
    entry("b +1", 340_000, 0.12),
]


def test_only_prefixes_that_are_as_small_count() -> None:
    files = [
        entry("Q1 imatrix", 299_999, 0.9),
        entry("Q2", 330_000, 0.2),
        entry("Q3", 999_000, 0.11),
    ]
    found = verdicts(files, OURS, "text")
    assert [v.ours and v.ours.name for v in found] == [None, "a +1", "a +1"]
    assert [v.ratio for v in found] == [None, pytest.approx(0.5), pytest.approx(0.1 / 0.11)]
    assert [v.holds for v in found] == [False, True, False]
    assert found[1].to_json()["our_bytes"] == 330_000


def test_the_frontier_leaves_out_what_a_smaller_one_beats() -> None:
    assert [e.name for e in frontier(OURS, "text")] == ["a +0", "b +0", "a +1"]


def test_ratios_ask_for_a_prefix_near_them() -> None:
    found = at_ratios(OURS, "text", WEIGHTS)
    assert {ratio: e.name for ratio, e in found.items()} == {12: "a +1"}
    assert OURS[0].to_json(WEIGHTS)["ratio_fp32"] == pytest.approx(13.33, abs=0.01)
    assert OURS[0].bits_actual(WEIGHTS) == 2.4


def test_the_drawing_is_svg() -> None:
    files = [
        entry("Q2_K", 330_000, 0.2),
        entry("Q2_K imatrix", 330_000, 0.19),
        entry("F16", 999_000, 1e-9),
    ]
    root = ElementTree.fromstring(drawing(["text"], files, OURS))
    titles = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}title")]
    for name in ("a +0", "b +1", "Q2_K:", "Q2_K imatrix"):
        assert any(title.startswith(name) for title in titles)
    assert not any(title.startswith("F16") for title in titles)
