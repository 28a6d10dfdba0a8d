"""What figures are held against does what it says; rows judge themselves rightly."""

from __future__ import annotations

import numpy as np
import pytest

from h2q import kernels
from h2q.bench import machine, slug
from h2q.bench.machine import Neighbours
from h2q.bench.materials import Materials, Sizes, aligned, code_bytes, words
from h2q.bench.rows import Limit, Row, Target
from h2q.bench.timing import Contestant, Timing, race
from h2q.core.errors import KernelError
from h2q.kernels import references

NATIVE = [path for path in kernels.available() if path != "numpy"]


def row(value: float, ratio: float, target: Target | None, *limits: Limit) -> Row:
    return Row("x", "path", 1, Timing(2.0, 3.0, 4), value, "weights/s", ratio, "y", target, limits)


@pytest.mark.parametrize("size", [0, 1, 31, 4096, (1 << 17) + 33])
def test_every_way_to_read_reads_everything(size: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << 64, size, np.uint64)
    sums = {references.read_words(numbers, form) for form in range(references.read_forms())}
    assert sums == {int(numbers.sum())}


def test_an_unknown_way_to_read_is_refused() -> None:
    with pytest.raises(KernelError):
        references.read_words(np.zeros(1, np.uint64), references.read_forms())


@pytest.mark.parametrize("path", NATIVE)
def test_multiply_adds_are_counted_and_right(path: str) -> None:
    with kernels.using(path):
        once = references.repeat_dots(1)
        assert once > 0
        assert references.repeat_dots(1000) == 1000 * once


def test_threads_meet() -> None:
    assert references.synchronise(3, False) == 3
    assert 0 <= references.synchronise(3, True) <= 3  # a busy machine may keep a thread away


def test_no_speed_is_measured_on_the_twins() -> None:
    with kernels.using("numpy"), pytest.raises(KernelError, match="native"):
        references.require_native()


@pytest.mark.usefixtures("two_threads")
def test_a_race_restores_threads_and_path() -> None:
    before = kernels.threads(), kernels.path()
    seen = []

    def look() -> None:
        seen.append((kernels.threads(), kernels.path()))

    found = race([Contestant("a", look, 1, NATIVE[-1]), Contestant("b", look, 1)], 0.0, 0.0)
    assert (kernels.threads(), kernels.path()) == before
    assert {(1, NATIVE[-1]), (1, before[1])} == set(seen)
    assert all(0 < t.best <= t.median and t.rounds == 3 for t in found.values())
    with pytest.raises(KernelError, match="same name"):
        race([Contestant("a", look, 1), Contestant("a", look, 1)], 0.0, 0.0)


def test_rows_know_their_targets_and_limits() -> None:
    speed = row(50.0, 0.5, Target("value", least=100.0), Limit("a", 0.5), Limit("b", 1.5))
    assert speed.document()["target"] == {
        "of": "value",
        "least": 100.0,
        "reached": False,
        "at_limit": 50.0 / 0.75,
        "limit_allows": False,
    }
    assert [limit["share"] for limit in speed.document()["limits"]] == [0.25, 0.75]
    times = row(1.0, 2.5, Target("ratio", most=2.0), Limit("a", 1.0))
    assert times.document()["target"]["at_limit"] == 1.25
    assert times.document()["target"]["limit_allows"] is True
    assert row(1.0, 2.0, Target("ratio", most=2.0)).document()["target"]["reached"] is True
    assert "target" not in row(1.0, 1.0, None).document()


def test_materials_are_whole_and_aligned() -> None:
    materials = Materials(Sizes.of(1))
    assert materials.two.codes.ctypes.data % 4096 == aligned(7).ctypes.data % 4096 == 0
    assert code_bytes([materials.two]) == words(materials.one).nbytes == 1 << 20
    assert len(np.unique(materials.two.codes)) == 256
    assert all(p.spec.rows == materials.two.spec.rows for p in materials.refinements)


def test_own_work_is_not_the_neighbours() -> None:
    neighbours = Neighbours()
    sum(range(2_000_000))
    assert 0.0 <= neighbours.share() <= 1.0


def test_a_machine_has_a_name_for_files() -> None:
    assert slug() == machine()["slug"]
    assert slug().replace("-", "").isalnum()
    assert slug() == slug().lower()
