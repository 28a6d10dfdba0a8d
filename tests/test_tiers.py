"""Matrices over the vocabulary in tiers of rows, and how many bytes a crystal of them has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q import kernels
from h2q.codec.planes import Plane
from h2q.core.architecture import EMBEDDING, HEAD, TIER_ROWS, coded, parts, tensors
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.crystal import CrystalWriter, crystal_bytes, open_crystal
from h2q.crystal.sizes import prefix_bytes
from h2q.engine.load import load_crystal
from h2q.engine.projections import Joined, PlaneEmbedding, PlaneProjection
from h2q.geometry.rotation import rotation
from planes import normal, random_plane, random_stack
from small_crystals import SPEC

TIERED = replace(SPEC, vocab_size=1111)
SPECS = [SPEC, TIERED, replace(TIERED, tie_word_embeddings=False, num_hidden_layers=2)]


def of_vocabulary(size: int) -> ModelSpec:
    return replace(SPEC, vocab_size=size, eos_token_ids=())


@given(size=st.integers(1, 1 << 22))
def test_parts_cover_all_rows_once(size: int) -> None:
    tensor = tensors(of_vocabulary(size))[0]
    found = parts(tensor)
    at = 0
    for part in found:
        assert part.begin == at
        assert part.shape[0] > 0
        assert part.shape[1] == tensor.shape[1]
        at += part.shape[0]
        assert at % TIER_ROWS == 0 or at == size
    assert at == size
    names = [tensor.name] if len(found) == 1 else [f"{tensor.name}.rows.{p.begin}" for p in found]
    assert [part.name for part in found] == names


@pytest.mark.parametrize(
    ("size", "ends"),
    [
        (96, [96]),
        (256, [256]),
        (257, [256, 257]),
        (1111, [256, 512, 768, 1111]),
        (4096, [512, 1024, 2048, 4096]),
        (32_000, [4096, 8192, 16_128, 32_000]),  # 4,000 and 16,000 rounded up to 256
        (128_256, [16_128, 32_256, 64_256, 128_256]),
    ],
)
def test_tiers_end_where_the_format_says(size: int, ends: list[int]) -> None:
    """At an eighth, a quarter, half of the vocabulary, rounded up to 256 rows (docs/format.md)."""
    found = parts(tensors(of_vocabulary(size))[0])
    assert [part.begin + part.shape[0] for part in found] == ends


def test_only_matrices_over_the_vocabulary_have_tiers() -> None:
    spec = SPECS[-1]
    names = [part.name for part in coded(spec)]
    rows = [name for name in names if ".rows." in name]
    assert len(names) == len(set(names))
    assert rows == [f"{t}.rows.{b}" for t in (EMBEDDING, HEAD) for b in (0, 256, 512, 768)]
    assert names[:4] == rows[:4]
    assert names[-4:] == rows[4:]  # in execution order: the head comes last


def cut(plane: Plane, begin: int, end: int) -> Plane:
    """Rows of a plane whose panels are 256 rows tall."""
    spec = PlaneSpec(plane.spec.bits, end - begin, plane.spec.cols)
    codes = plane.codes[begin // TIER_ROWS : end // TIER_ROWS]
    return Plane(spec, np.ascontiguousarray(codes), plane.scales[begin:end].copy())


def test_tiers_say_what_the_whole_matrix_says() -> None:
    """Rows looked up across tiers, and products with them, are those of one tall plane, bit for
    bit.
    """
    draw = np.random.default_rng(0)
    rows, width = 1024, 96
    whole = (random_plane(draw, 2, rows, width), random_plane(draw, 1, rows, width))
    assert whole[0].codes.shape[0] == rows // TIER_ROWS
    ends = (256, 512, 1024)
    tiers = {
        f"rows.{begin}": tuple(cut(plane, begin, end) for plane in whole)
        for begin, end in zip((0, *ends), ends, strict=False)
    }
    turn = rotation(0, width)
    ids = np.array([0, 255, 256, 1023, 511, 512, 7, 7, 300], np.int64)
    expected = kernels.unrotate(kernels.gather_rows(whole, ids), turn)
    np.testing.assert_array_equal(PlaneEmbedding(tiers, turn)(ids), expected)
    np.testing.assert_array_equal(PlaneEmbedding({"all": whole}, turn)(ids), expected)
    x = normal(draw, 3, width)
    (joined,) = Joined(PlaneProjection(tiers, turn))(x)
    (product,) = PlaneProjection({"all": whole}, turn)(x)
    np.testing.assert_array_equal(joined, product)


def test_a_lookup_need_not_touch_every_tier() -> None:
    draw = np.random.default_rng(1)
    tiers = {f"t{i}": tuple(random_stack(draw, (2, 1)[: 2 - i], 256, 32)) for i in range(2)}
    embedding = PlaneEmbedding(tiers, rotation(0, 32))
    ids = np.arange(256, 260)
    rows = kernels.gather_rows(tiers["t1"], ids - 256)
    np.testing.assert_array_equal(embedding(ids), kernels.unrotate(rows, rotation(0, 32)))
    assert embedding(np.zeros(0, np.int64)).shape == (0, 32)


def written(
    target: Path, spec: ModelSpec, draw: np.random.Generator, most: int, shards: int
) -> tuple[dict[str, tuple[int, ...]], list[list[tuple[str, int]]]]:
    """A crystal with random heights and a random ranking; its planes' bits and its groups."""
    bits, waiting = {}, []
    for part in coded(spec):
        bits[part.name] = tuple(int(b) for b in draw.integers(1, 3, draw.integers(1, most + 1)))
        waiting += [part.name] * (len(bits[part.name]) - 1)
    next_plane = dict.fromkeys(bits, 1)
    order = []
    for name in draw.permutation(waiting).tolist():
        order.append((name, next_plane[name]))
        next_plane[name] += 1
    size = max(1, -(-len(order) // shards))
    groups = [order[begin : begin + size] for begin in range(0, len(order), size)]
    with CrystalWriter(target, spec, rotation_seed=3) as writer:
        for tensor in tensors(spec):
            if not tensor.coded:
                writer.add_raw(tensor.name, np.ones(tensor.shape, np.float32))
        for part in coded(spec):
            writer.add_planes(part.name, random_stack(draw, bits[part.name], *part.shape))
        writer.rank(groups)
        writer.tokenizer("{}\n")
        writer.certificate({"format": 1})
        writer.commit()
    return bits, groups


@pytest.mark.parametrize("spec", SPECS, ids=["one part", "tiers", "untied"])
@pytest.mark.parametrize(("most", "shards"), [(1, 1), (2, 1), (4, 3), (4, 40)])
def test_bytes_are_foretold(spec: ModelSpec, most: int, shards: int, tmp_path: Path) -> None:
    """Of every prefix, against the files, whatever the heights and the order of the planes."""
    draw = np.random.default_rng(100 * most + shards)
    target = tmp_path / "some.crystal"
    bits, groups = written(target, spec, draw, most, shards)
    crystal = open_crystal(target)
    names = ["crystal.json", "base.safetensors"]
    names += [f"refine-{index:02}.safetensors" for index in range(1, 1 + len(groups))]
    sizes = np.cumsum([(target / name).stat().st_size for name in names])[1:].tolist()
    foretold = prefix_bytes(spec, 3, bits, groups)
    assert foretold == sizes
    assert [crystal_bytes(crystal, count) for count in range(len(groups) + 1)] == sizes
    assert {file.name for file in target.glob("*.safetensors")} == set(names[1:])
    model = load_crystal(crystal)
    tokens = np.array([[0, spec.vocab_size - 1, spec.vocab_size // 2]])
    logits = model.forward(tokens, model.new_cache())
    assert logits.shape == (1, 3, spec.vocab_size)
    assert np.isfinite(logits).all()
