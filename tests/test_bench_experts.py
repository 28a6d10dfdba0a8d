"""The benchmark of experts on disk runs end to end on a small shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from h2q.bench import ExpertOptions, bench_experts
from h2q.core.errors import UsageError


@pytest.mark.long
def test_all_rows(tmp_path: Path) -> None:
    found = bench_experts(ExpertOptions(("1+1 bits",), files=tmp_path, shape="trial"))
    assert found["same_text"] == {"1+1 bits": True}
    ways = ("the system's cache", "the disk", "the disk, base planes first")
    figures = ("resident set at most", "hit rate", "waiting", "decoding")
    names = {f"1+1 bits, from {way}: {figure}" for way in ways for figure in figures}
    assert set(found["results"]) == names
    for name, row in found["results"].items():
        assert ("target" in row) == name.endswith("at most")
        assert row["value"] > 0 or "hit rate" in name
    runs = list(found["runs"]["1+1 bits"].values())
    whole, kept = runs[0], runs[1:]
    assert whole["experts"] == whole["stall"] == 0
    for run in kept:
        assert whole["tokens"] == run["tokens"]
        assert run["highest"] <= run["peak"] < run["budget"]
        assert 0 < run["experts_peak"] <= run["experts"] < run["every"]
        assert 0 < run["stall"] < run["per_token"]
    assert kept[0]["degraded"] == kept[1]["degraded"] == 0


@pytest.mark.parametrize("wrong", [{"shape": "llama-1.1b"}, {"only": ("odd",)}])
def test_what_does_not_exist_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Known:"):
        ExpertOptions(**wrong)  # type: ignore[arg-type]
