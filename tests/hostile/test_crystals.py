"""Damaged crystals, full disks and killed writers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from h2q.core.errors import CrystalError
from h2q.crystal import open_crystal, verify_crystal
from h2q.engine import load_crystal

SHARDS = ("base.safetensors", "refine-01.safetensors")


@pytest.fixture
def crystal(seed_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(seed_path, tmp_path / "copy.crystal"))


def test_a_whole_crystal_passes_every_check(crystal: Path) -> None:
    checks = verify_crystal(crystal)
    assert len(checks) > 8
    assert all(check.ok for check in checks)


def test_the_library_reads_our_shards(crystal: Path) -> None:
    opened = open_crystal(crystal)
    name, index = opened.rank[0][0]
    with safe_open(crystal / "refine-01.safetensors", "np") as theirs:
        codes = theirs.get_tensor(f"{name}.codes.{index}")
        assert set(theirs.keys()) == set(opened.entries(1))
    np.testing.assert_array_equal(codes, opened.planes(name)[index].codes)
    for entry in opened.entries(0).values():
        assert entry.begin % 64 == 0
        assert (entry.end - entry.begin) % 64 == 0


@pytest.mark.parametrize("bad", [b"\x80\x7f", b"\x80\xff", b"\xc0\x7f"])  # infinities and NaN
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight.scales.0", "model.layers.1.input_layernorm.weight"]
)
def test_numbers_that_are_not_finite_are_refused_by_name(
    crystal: Path, name: str, bad: bytes
) -> None:
    """Even where every checksum is right: whoever made the crystal wrote them."""
    path = crystal / "base.safetensors"
    entry = open_crystal(crystal).entries(0)[name]
    data = bytearray(path.read_bytes())
    at = entry.begin + (2 if entry.dtype == "F32" else 0)
    data[at : at + 2] = bad
    path.write_bytes(data)
    description = json.loads((crystal / "crystal.json").read_text())
    description["files"][0][2] = hashlib.sha256(data).hexdigest()
    (crystal / "crystal.json").write_text(json.dumps(description))
    with pytest.raises(CrystalError, match="not finite") as caught:
        load_crystal(open_crystal(crystal))
    assert caught.value.where == name
    assert [name in check.detail for check in verify_crystal(crystal) if not check.ok] == [True]


def test_prefixes_hold_fewer_planes(crystal: Path) -> None:
    opened = open_crystal(crystal)
    counts = [
        sum(len(opened.planes(name, groups)) for name in opened.manifest.bits)
        for groups in range(len(opened.rank) + 1)
    ]
    assert counts[0] == len(opened.manifest.bits)
    assert counts == sorted(set(counts))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shard=st.sampled_from(SHARDS), where=st.floats(0, 0.99999), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(crystal: Path, shard: str, where: float, bit: int) -> None:
    path = crystal / shard
    whole = path.read_bytes()
    data = bytearray(whole)
    data[int(len(data) * where)] ^= 1 << bit
    path.write_bytes(data)
    try:
        with pytest.raises(CrystalError):
            open_crystal(crystal)
        assert not all(check.ok for check in verify_crystal(crystal))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("harm", ["missing", "short", "long", "empty"])
@pytest.mark.parametrize("shard", SHARDS)
def test_a_shard_of_the_wrong_size(crystal: Path, shard: str, harm: str) -> None:
    path = crystal / shard
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": data[:-64], "long": data + b"\0", "empty": b""}[harm])
    with pytest.raises(CrystalError):
        open_crystal(crystal)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "gguf"),
        ("version", 99),
        ("version", None),
        ("rotation_seed", -1),
        ("rotation_seed", 2**40),
        ("bits", []),
        ("bits", [[3]] * 43),
        ("groups", [[[0, 2]]]),
        ("groups", [[[10**9, 1]]]),
        ("groups", 5),
        ("files", [["../base.safetensors", 1, "0" * 64]]),
        ("files", []),
        ("model", {}),
        ("surprise", 1),
    ],
)
def test_a_description_that_lies(crystal: Path, key: str, value: object) -> None:
    path = crystal / "crystal.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CrystalError):
        open_crystal(crystal)


def test_a_stamp_is_only_trusted_for_the_files_it_saw(crystal: Path) -> None:
    open_crystal(crystal)
    path = crystal / "base.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CrystalError, match="checksum"):
        open_crystal(crystal)
