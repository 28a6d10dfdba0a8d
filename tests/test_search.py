"""Targets: what was asked for holds on the disk and in the certificate, grown for real from small
random llamas.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.architecture import coded
from h2q.core.errors import QualityError
from h2q.core.specs import ModelSpec
from h2q.crystal import crystal_bytes, open_crystal
from h2q.crystal.sizes import prefix_bytes
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.crystallize.allocate import TOWERS
from h2q.crystallize.budget import beside_bytes, parameters
from h2q.sources import Source
from small_llamas import BRIEF, UNTIED, small_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return small_llama(tmp_path_factory.mktemp("llamas") / "small")


def grown(source: Source, target: Path, options: Options) -> tuple[dict, int]:  # type: ignore[type-arg]
    """Its certificate, and its bytes on the disk."""
    certificate = ModelCrystallizationEngine(source, options).grow(target)
    files = [target / "crystal.json", *target.glob("*.safetensors")]
    size = sum(file.stat().st_size for file in files)
    crystal = open_crystal(target)
    assert crystal_bytes(crystal) == certificate["crystal_bytes"] == size
    for row in certificate["prefixes"]:
        assert row["bytes"] == crystal_bytes(crystal, row["groups"])
    return certificate, size


MIB = 1 << 20


def least_bytes(spec: ModelSpec) -> int:
    """Of a crystal with one bit a weight."""
    return prefix_bytes(spec, 0, {part.name: (1,) for part in coded(spec)}, [])[-1]


@pytest.mark.parametrize(
    ("target", "value"), [("ratio", 12.0), ("bits", 4.3), ("size", 140_000), ("memory", None)]
)
def test_bytes_hold(source: Source, tmp_path: Path, target: str, value: float | None) -> None:
    """No byte too many, and hardly a byte unused."""
    count = parameters(source.spec)
    budget = {
        "ratio": 4 * count / 12.0,
        "bits": 4.3 * count / 8,
        "size": 140_000,
        "memory": 170_000,
    }[target]
    if value is None:
        value = int(budget) + beside_bytes(source.spec)
    options = replace(BRIEF, **{target: value})
    certificate, size = grown(source, tmp_path / "a.crystal", options)
    assert 0.94 * budget < size <= budget
    assert certificate["ratio_fp32"] == 4 * count / size
    assert certificate["bits_per_weight"] == 8 * size / count
    rows = certificate["prefixes"]
    assert rows[-1]["kl_mean"] < rows[0]["kl_mean"]
    assert certificate["plan"]["largest_gap"] < 0.5


def test_the_head_of_its_own_is_grown_too(tmp_path: Path) -> None:
    source = small_llama(tmp_path / "untied", UNTIED)
    options = replace(BRIEF, ratio=10.0)
    certificate, size = grown(source, tmp_path / "a.crystal", options)
    assert size <= 4 * parameters(source.spec) / 10
    names = [row["tensor"] for row in certificate["layers"]]
    assert names == [part.name for part in coded(source.spec)]
    assert names[-1].startswith("lm_head.weight.rows.")


def test_the_smallest_crystal_there_is(source: Source, tmp_path: Path) -> None:
    """With the very bytes of one bit a weight it grows, with one less it is refused."""
    least = least_bytes(source.spec)
    target = tmp_path / "a.crystal"
    memory = least + beside_bytes(source.spec)
    for tight in ({"size": least - 1}, {"memory": memory - 1}):
        with pytest.raises(QualityError, match="one bit a weight") as told:
            ModelCrystallizationEngine(source, replace(BRIEF, **tight)).grow(target)
        assert f"--{next(iter(tight))} {-(-memory // MIB) if 'memory' in tight else least}" in str(
            told.value.fix
        )
    assert not target.exists()
    certificate, size = grown(source, target, replace(BRIEF, size=least))
    assert size == least
    assert len(certificate["prefixes"]) == 1
    assert all(row["bits"] == [1] for row in certificate["layers"])


def test_a_quality_is_held_by_the_certificate(source: Source, tmp_path: Path) -> None:
    """With fewer bytes for less quality."""
    sizes = []
    for quality in (0.8, 0.95):
        options = replace(BRIEF, quality=quality)
        certificate, size = grown(source, tmp_path / f"{quality}.crystal", options)
        assert certificate["quality"] >= quality
        attempts = certificate["plan"]["attempts"]
        assert attempts[-1]["held"] or any(attempt["held"] for attempt in attempts)
        sizes.append(size)
    assert sizes[0] < sizes[1] < 4 * parameters(source.spec) / 5


def test_a_quality_out_of_reach(source: Source, tmp_path: Path) -> None:
    """No crystal is the original: the best is named, or written where that is wished for."""
    target = tmp_path / "a.crystal"
    options = replace(BRIEF, quality=1.0)
    with pytest.raises(QualityError, match=r"the best was 0\.9\d+ with") as caught:
        ModelCrystallizationEngine(source, options).grow(target)
    assert "--best-effort" in str(caught.value.fix)
    assert not target.exists()
    certificate, _ = grown(source, target, replace(options, best_effort=True))
    assert 0.9 < certificate["quality"] < 1.01
    assert not any(attempt["held"] for attempt in certificate["plan"]["attempts"])
    assert all(sum(row["bits"]) == max(TOWERS) for row in certificate["layers"])


def test_the_same_options_give_the_same_bytes(source: Source, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        target = tmp_path / f"{name}.crystal"
        ModelCrystallizationEngine(source, replace(BRIEF, ratio=9.0)).grow(target)
        found.append({f.name: f.read_bytes() for f in target.glob("*.safetensors")})
    assert found[0] == found[1]
