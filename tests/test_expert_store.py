"""Experts on disk: the same bits as in memory, never more bytes than the budget, pages that really
leave.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.bench.mixtures import mixture
from h2q.bench.random_mixture import write_mixture
from h2q.codec.planes import Plane
from h2q.core.errors import CrystalError, ResourceError
from h2q.core.mlp_tensors import is_expert
from h2q.core.specs import CLAMPED
from h2q.crystal import Crystal, open_crystal
from h2q.engine import Model, load_crystal
from h2q.engine.expert_store import ExpertStore
from h2q.engine.load import exchange
from h2q.runtime.expert_budget import expert_bytes, other_bytes

POOL = 1 << 20
AROUND = 64 << 10  # what Linux maps with a page that is touched
TOKENS = np.random.default_rng(0).integers(3, 2048, (1, 20))
linux = pytest.mark.skipif(sys.platform != "linux", reason="the system tells no resident pages")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("mixture") / "a.crystal"
    write_mixture(target, mixture("trial"), (2, 1, 1), pool=POOL)
    return target


def run(model: Model) -> np.ndarray:
    """Logits of a prompt at once, then of each token alone."""
    whole = model.forward(TOKENS, model.new_cache())
    cache = model.new_cache()
    steps = [model.forward(TOKENS[:, i : i + 1], cache) for i in range(TOKENS.shape[1])]
    return np.concatenate([whole, *steps], axis=1)


def stored(path: Path, budget: int, groups: int | None = None, **how: bool) -> tuple:
    store = ExpertStore(budget, **how)
    return store, load_crystal(open_crystal(path), groups, store)


@pytest.mark.parametrize("groups", [0, 1, None])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_the_same_bits_as_in_memory(path: Path, groups: int | None, share: float) -> None:
    expected = run(load_crystal(open_crystal(path), groups))
    store, model = stored(path, int(share * every_byte(path, groups)), groups, forget=share < 0.1)
    np.testing.assert_array_equal(run(model), expected)
    tally = store.tally()
    assert tally.peak <= tally.budget
    assert (tally.misses <= 48) == (share == 1)  # 3 layers of 16 experts
    assert tally.runs == tally.hits + tally.misses
    assert tally.stall > 0
    assert (tally.let_go > 0) == (share < 1)
    store.close()
    assert store.tally().resident == 0


def test_experts_with_biases(tmp_path: Path) -> None:
    """gpt-oss: what is kept as it is stays in memory, whatever happens to an expert's planes."""
    spec, path = mixture("trial"), tmp_path / "b.crystal"
    assert spec.experts is not None
    spec = replace(
        spec,
        family="gpt_oss",
        latent=None,
        head_dim=64,
        hidden_act=CLAMPED,
        mlp_bias=True,
        attention_sinks=True,
        experts=replace(spec.experts, n_shared_experts=0, mlp_only_layers=()),
    )
    write_mixture(path, spec, (2, 1), pool=POOL)
    expected = run(load_crystal(open_crystal(path)))
    store, model = stored(path, int(0.3 * every_byte(path)))
    np.testing.assert_array_equal(run(model), expected)
    assert store.tally().let_go > 0
    store.close()
    crystal = open_crystal(path)
    biases = 4 * 4 * 16 * (2 * 1024 + 256)  # bytes, layers, experts, gate and up and down
    assert expert_bytes(crystal, 1) <= every_byte(path)  # which counts shared pages twice
    assert other_bytes(crystal, 1) > biases


def every_byte(path: Path, groups: int | None = None) -> int:
    """Of all experts, as a store counts them."""
    return stored(path, 1 << 30, groups)[0].tally().every


def mapped_bytes(name: str) -> int:
    """Resident bytes of mappings of files called so, as the system counts them."""
    found, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0] and not line.split()[0].endswith(":"):
            counted = line.endswith(name)
        elif counted and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@linux
def test_what_leaves_gives_its_memory_back(path: Path) -> None:
    shard = str(path / "base.safetensors")
    for share in (8, 3):
        gc.collect()  # models of other tests map the same file
        crystal, store = open_crystal(path), ExpertStore(every_byte(path, 0) // share)
        model = load_crystal(crystal, 0, store)
        most = store.tally().budget + other_bytes(crystal, 0)
        most += 2 * AROUND * (1 + crystal.spec.num_hidden_layers)
        assert most < 0.8 * (path / "base.safetensors").stat().st_size
        for at in range(TOKENS.shape[1]):
            model.forward(TOKENS[:, at:], model.new_cache())
            assert mapped_bytes(shard) < most
        assert store.tally().let_go > 100
        before = mapped_bytes(shard)
        held = store.tally().resident
        store.resize(0)
        least = store.tally()
        assert least.resident <= least.budget < held
        store.close()
        assert mapped_bytes(shard) <= before - held // 2
        del model, crystal, store


def test_base_planes_answer_until_the_rest_is_there(path: Path) -> None:
    crystal = open_crystal(path)
    expected, based = load_crystal(crystal), load_crystal(crystal)
    exchange(based, {n: base_of(crystal, n) for n in crystal.manifest.bits if is_expert(n)})
    store, model = stored(path, 1 << 30, degrade=True)
    first, again = TOKENS[:, :1], {}
    for name, one in (("full", expected), ("base", based)):
        again[name] = one.forward(first, one.new_cache())
    np.testing.assert_array_equal(model.forward(first, model.new_cache()), again["base"])
    tally = store.tally()
    assert (tally.misses, tally.hits, tally.degraded) == (9, 0, 0)
    for _ in range(3):  # a layer's whole answers may choose other experts in the next
        store.wait()
        found = model.forward(first, model.new_cache())
    np.testing.assert_array_equal(found, again["full"])
    assert store.tally().hits >= 9
    store.degrade = False
    np.testing.assert_array_equal(run(model), run(expected))
    store.close()


def base_of(crystal: Crystal, name: str) -> tuple[Plane, ...]:
    return tuple(crystal.planes(name, 0))


def test_degraded_experts_stay_within_the_budget(path: Path) -> None:
    store, model = stored(path, every_byte(path) * 3 // 4, degrade=True)
    for _ in range(3):
        assert np.isfinite(run(model)).all()
        store.wait()
    tally = store.tally()
    assert tally.peak <= tally.budget
    assert tally.degraded > 0
    assert tally.hits > 0
    assert tally.hit_rate > 3 / 4  # base planes take half the bytes, so more of them stay
    store.close()


def test_planes_come_and_go_between_tokens(path: Path) -> None:
    crystal = open_crystal(path)
    store, model = stored(path, 1 << 30)
    for groups in (0, 2, 1):
        names = [n for n in crystal.manifest.bits if not is_expert(n)]
        exchange(model, {name: tuple(crystal.planes(name, groups)) for name in names})
        store.use(groups)
        np.testing.assert_array_equal(run(model), run(load_crystal(crystal, groups)))
    store.close()


def test_a_budget_below_one_expert_is_refused(path: Path) -> None:
    with pytest.raises(ResourceError, match="one takes"):
        stored(path, 10_000)


def test_damage_is_named_when_the_expert_is_first_used(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.crystal"
    write_mixture(target, mixture("trial"), (2,), pool=POOL)
    crystal = open_crystal(target)
    entry = crystal.entries(0)["model.layers.1.mlp.experts.5.up_proj.weight.scales.0"]
    shard = target / "base.safetensors"
    with shard.open("r+b") as file:
        file.seek(entry.begin)
        file.write(b"\xc0\x7f")  # a NaN
    store = ExpertStore(1 << 30)
    model = load_crystal(crystal, None, store)  # opened before: only scales are still looked at
    with pytest.raises(CrystalError, match=r"experts\.5\.up_proj"):
        model.forward(np.arange(3, 500)[None], model.new_cache())
    store.close()
