"""Targets: what was asked for holds on the disk and in the certificate, grown for real from small
random llamas.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.core.architecture import EMBEDDING, coded, parts, tensors
from h2q.core.errors import QualityError
from h2q.core.specs import ModelSpec
from h2q.crystal import crystal_bytes, open_crystal
from h2q.crystal.sizes import prefix_bytes
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.crystallize.allocate import TOWERS
from h2q.crystallize.balance import BalancedSource
from h2q.crystallize.budget import beside_bytes, budget_bytes, parameters
from h2q.crystallize.candidate import Candidate
from h2q.crystallize.export import CrystalWeights
from h2q.crystallize.search import Search
from h2q.sources import Source
from small_llamas import BRIEF, UNTIED, small_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return small_llama(tmp_path_factory.mktemp("llamas") / "small")


def grown(source: Source, target: Path, options: Options) -> tuple[dict, int]:  # type: ignore[type-arg]
    """Its certificate, and its bytes on the disk."""
    certificate = ModelCrystallizationEngine(source, options).grow(target)
    assert told(target)[0] == certificate
    return told(target)


def told(target: Path) -> tuple[dict, int]:  # type: ignore[type-arg]
    """The same of one that stands."""
    certificate = json.loads((target / "certificate.json").read_text())
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


@pytest.fixture(scope="module")
def twelve(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crystal of a twelfth of the bytes."""
    target = tmp_path_factory.mktemp("crystals") / "twelve.crystal"
    ModelCrystallizationEngine(source, replace(BRIEF, ratio=12.0)).grow(target)
    return target


def held(source: Source, target: Path, budget: float) -> None:
    """No byte too many, and hardly a byte unused; what is said of them is so."""
    certificate, size = told(target)
    count = parameters(source.spec)
    assert 0.94 * budget < size <= budget
    assert certificate["ratio_fp32"] == 4 * count / size
    assert certificate["bits_per_weight"] == 8 * size / count
    rows = certificate["prefixes"]
    assert rows[-1]["kl_mean"] < rows[0]["kl_mean"]
    assert certificate["plan"]["largest_gap"] < 0.5


def test_bytes_hold(source: Source, twelve: Path, tmp_path: Path) -> None:
    held(source, twelve, 4 * parameters(source.spec) / 12)
    memory = 170_000 + beside_bytes(source.spec)
    grown(source, tmp_path / "a.crystal", replace(BRIEF, memory=memory))
    held(source, tmp_path / "a.crystal", 170_000)


def test_every_target_in_bytes_is_one_budget(source: Source) -> None:
    spec, count = source.spec, parameters(source.spec)
    memory = 140_000 + beside_bytes(spec)
    assert budget_bytes(spec, Options(ratio=12.0)) == 4 * count // 12
    assert budget_bytes(spec, Options(bits=4.3)) == int(4.3 * count / 8)
    assert budget_bytes(spec, Options(size=140_000)) == 140_000
    assert budget_bytes(spec, Options(memory=memory)) == 140_000
    assert budget_bytes(spec, Options(quality=0.9)) is None


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


def check_errors(source: Source, target: Path, certificate: dict) -> None:  # type: ignore[type-arg]
    """The stated errors of the embedding, whose target is the tensor, are those of the planes that
    were kept.
    """
    embedding = next(tensor for tensor in tensors(source.spec) if tensor.name == EMBEDDING)
    whole = np.asarray(BalancedSource(source).tensor(EMBEDDING), np.float64)
    rows = CrystalWeights(open_crystal(target)).rows(embedding)(np.arange(len(whole)))
    errors = {row["tensor"]: row["mse"] for row in certificate["layers"]}
    for part in parts(embedding):
        error = np.square(rows[part.rows] - whole[part.rows]).sum()
        power = np.square(whole[part.rows]).sum()
        assert errors[part.name] == pytest.approx(error / power, rel=1e-4)


def test_a_quality_is_held_by_the_certificate(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer bytes for less quality. Where the cut of the ranking lands far within the target,
    as within one twice as wide, large planes that are not needed are left out.
    """
    whole = Search._trimmed

    def trimmed(search: Search, found: Candidate, wanted: float) -> Candidate:
        less = whole(search, found, 2 * wanted)
        assert less.sizes[-1] < 0.99 * found.sizes[-1]
        assert search._left(less, 2 * wanted) >= 0
        return whole(search, found, wanted)

    monkeypatch.setattr(Search, "_trimmed", trimmed)
    sizes = []
    for quality in (0.8, 0.95):
        options = replace(BRIEF, quality=quality)
        certificate, size = grown(source, tmp_path / f"{quality}.crystal", options)
        assert certificate["quality"] >= quality
        attempts = certificate["plan"]["attempts"]
        assert attempts[-1]["held"] or any(attempt["held"] for attempt in attempts)
        sizes.append(size)
        check_errors(source, tmp_path / f"{quality}.crystal", certificate)
    assert sizes[0] < sizes[1] < 4 * parameters(source.spec) / 5


def test_a_quality_out_of_reach(source: Source, tmp_path: Path) -> None:
    """No crystal is the original: the best is named, or written where that is wished for."""
    target = tmp_path / "a.crystal"
    options = replace(BRIEF, quality=1.0)
    with pytest.raises(QualityError, match=r"the best was 0\.9\d+ with") as caught:
        ModelCrystallizationEngine(source, options).grow(target)
    assert "--best-effort" in str(caught.value.fix)
    assert not target.exists()
    stages = set[str]()
    engine = ModelCrystallizationEngine(source, replace(options, best_effort=True))
    engine.grow(target, progress=lambda event: stages.add(event.stage))
    assert "measure prefixes" in stages
    assert not {"sample text", "measure sensitivity", "encode planes"} & stages  # taken over
    certificate, _ = told(target)
    assert 0.9 < certificate["quality"] < 1.01
    assert not any(attempt["held"] for attempt in certificate["plan"]["attempts"])
    assert all(sum(row["bits"]) == max(TOWERS) for row in certificate["layers"])


def test_the_same_options_give_the_same_bytes(source: Source, twelve: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.crystal"
    ModelCrystallizationEngine(source, replace(BRIEF, ratio=12.0)).grow(again)
    one, two = (
        {f.name: f.read_bytes() for f in path.glob("*.safetensors")} for path in (twelve, again)
    )
    assert one == two
