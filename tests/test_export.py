"""Crystals and originals as GGUF files: read back by our own source and by the `gguf` package."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import quants

from gguf_files import RandomLlama, gguf_name, in_pairs, sentencepiece_words, write_gguf
from h2q.codec.decode import decode_plane, row_scales
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, to_bfloat16
from h2q.core.architecture import coded, parts, tensors
from h2q.core.errors import QualityError, ResourceError, UsageError
from h2q.core.specs import PlaneSpec
from h2q.crystal import Crystal, CrystalWriter, crystal_bytes, open_crystal
from h2q.crystallize import compare
from h2q.crystallize.export import export_crystal, export_source
from h2q.engine import load_crystal, load_original
from h2q.geometry.rotation import rotation, unrotate
from h2q.sources import Source
from h2q.sources.gguf_file import GGUFSource
from test_commands import document, h2q


def decoded(crystal: Crystal, name: str, groups: int | None = None) -> np.ndarray:
    """A tensor as the format's document says, by the reference alone."""
    if name.endswith("norm.weight"):
        return crystal.raw(name)
    (tensor,) = [t for t in tensors(crystal.spec) if t.name == name]
    turned = np.concatenate(
        [
            sum(
                row_scales(plane)[:, None].astype(np.float64)
                * decode_plane(plane.spec, plane.codes)
                for plane in crystal.planes(part.name, groups)
            )
            for part in parts(tensor)
        ]
    ).astype(np.float32)
    return unrotate(turned, rotation(crystal.rotation_seed, turned.shape[1]))


def stored(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def random_plane(bits: int, shape: tuple[int, int], seed: int) -> Plane:
    """Every bit pattern is a plane."""
    layout = PanelLayout.of(PlaneSpec(bits, *shape))
    draw = np.random.default_rng(seed)
    scales = np.zeros(layout.scale_count, np.float32)
    scales[: shape[0]] = draw.uniform(0.5e-3, 1e-3, shape[0])
    codes = draw.integers(0, 256, layout.code_shape).astype(np.uint8)
    return Plane(layout.spec, codes, to_bfloat16(scales))


def test_a_vocabulary_in_tiers_comes_back(tmp_path: Path) -> None:
    """Tiers of rows, refined in different shards, of an untied model."""
    words = sentencepiece_words(900)
    model = RandomLlama(len(words.tokens))
    write_gguf(tmp_path / "words.gguf", model, words)
    found = coded(model.spec)
    assert len(parts(tensors(model.spec)[0])) > 1
    path = tmp_path / "random.crystal"
    with CrystalWriter(path, model.spec, rotation_seed=3) as writer:
        for tensor in tensors(model.spec):
            if not tensor.coded:
                writer.add_raw(tensor.name, model.tensor(tensor.name))
        refined = [found[0].name, found[5].name, found[-1].name]
        for index, part in enumerate(found):
            bits = (2, 1) if part.name in refined else (2,)
            stack = [random_plane(k, part.shape, 2 * index + k) for k in bits]
            writer.add_planes(part.name, stack)
        writer.rank([[(name, 1)] for name in refined])
        writer.tokenizer(GGUFSource(tmp_path / "words.gguf").tokenizer_json())
        writer.chat_template("{{ messages }}")
        writer.commit()
    crystal = open_crystal(path)
    for groups in range(len(crystal.rank) + 1):
        export_crystal(crystal, tmp_path / "out.gguf", "f32", groups, overwrite=True)
        opened = GGUFSource(tmp_path / "out.gguf")
        assert opened.chat_template() == "{{ messages }}"
        for tensor in tensors(model.spec):
            expected = decoded(crystal, tensor.name, groups)
            np.testing.assert_allclose(opened.tensor(tensor.name), expected, atol=1e-6)


@pytest.mark.parametrize("groups", [0, 1, None])
def test_any_prefix_comes_back(seed_crystal: Crystal, tmp_path: Path, groups: int | None) -> None:
    target = tmp_path / "seed.gguf"
    made = export_crystal(seed_crystal, target, "f32", groups)
    opened = GGUFSource(target)
    assert opened.spec == seed_crystal.spec
    assert made.bytes == target.stat().st_size
    assert made.tensor_bytes == opened.stored_bytes
    for tensor in tensors(opened.spec):
        expected = decoded(seed_crystal, tensor.name, groups)
        found = opened.tensor(tensor.name)
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_the_file_speaks_as_the_crystal(seed_crystal: Crystal, tmp_path: Path) -> None:
    """What is left is the crystal's int8 inputs against float32."""
    export_crystal(seed_crystal, tmp_path / "seed.gguf")
    tokens = np.random.default_rng(2).integers(0, seed_crystal.spec.vocab_size, (2, 96))
    dense = load_original(GGUFSource(tmp_path / "seed.gguf"))
    (found,) = compare(dense, [load_crystal(seed_crystal)], tokens)
    assert found.kl_mean < 0.01
    assert found.top1_agreement > 0.9


def test_half_precision_rounds_once(seed_crystal: Crystal, tmp_path: Path) -> None:
    export_crystal(seed_crystal, tmp_path / "wide.gguf", "f32")
    export_crystal(seed_crystal, tmp_path / "half.gguf", "F16")
    wide, half = GGUFSource(tmp_path / "wide.gguf"), GGUFSource(tmp_path / "half.gguf")
    for tensor in tensors(wide.spec):
        expected = wide.tensor(tensor.name)
        if tensor.kind != "norm":
            expected = expected.astype(np.float16)
        np.testing.assert_array_equal(half.tensor(tensor.name), expected)


def test_eight_bits_are_those_of_the_package(seed_crystal: Crystal, tmp_path: Path) -> None:
    export_crystal(seed_crystal, tmp_path / "wide.gguf", "f32")
    export_crystal(seed_crystal, tmp_path / "small.gguf", "q8_0")
    wide, small = GGUFSource(tmp_path / "wide.gguf"), GGUFSource(tmp_path / "small.gguf")
    files = stored(tmp_path / "small.gguf")
    for tensor in tensors(wide.spec):
        if not tensor.coded:
            continue
        exact, found = wide.tensor(tensor.name), small.tensor(tensor.name)
        entry = files[gguf_name(tensor.name)]
        theirs = quants.dequantize(entry.data, entry.tensor_type)
        assert entry.tensor_type.name == "Q8_0"
        np.testing.assert_array_equal(in_pairs(tensor.name, found, wide.spec), theirs)
        # Half a step, and what the step itself loses as a float16, subnormal ones included.
        step = np.abs(exact).reshape(-1, 32).max(axis=1) / 127
        off = np.abs(exact - found).reshape(-1, 32).max(axis=1)
        assert (off <= 0.5 * step + 127 * np.maximum(step / 2048, 2.0**-25) + 1e-7).all()


@pytest.mark.parametrize("tied", [False, True])
def test_an_original_comes_back(tmp_path: Path, tied: bool) -> None:
    words = sentencepiece_words()
    write_gguf(tmp_path / "first.gguf", RandomLlama(len(words.tokens), tied), words)
    first = GGUFSource(tmp_path / "first.gguf")
    made = export_source(first, tmp_path / "again.gguf", "again", "f32")
    again = GGUFSource(tmp_path / "again.gguf")
    assert again.spec == first.spec
    assert made.wider == ()
    for name in first.names():
        np.testing.assert_array_equal(again.tensor(name), first.tensor(name))


def test_rows_of_broken_blocks_stay_wider(tmp_path: Path) -> None:
    words = sentencepiece_words()
    write_gguf(tmp_path / "first.gguf", RandomLlama(len(words.tokens), width=16), words)
    first = GGUFSource(tmp_path / "first.gguf")
    made = export_source(first, tmp_path / "small.gguf", "small", "q8_0")
    files = stored(tmp_path / "small.gguf")
    assert "model.layers.0.self_attn.q_proj.weight" in made.wider  # 16 columns, a block takes 32
    for tensor in tensors(first.spec):
        kind = files[gguf_name(tensor.name)].tensor_type.name
        wanted = "F16" if tensor.name in made.wider else "Q8_0"
        assert kind == ("F32" if not tensor.coded else wanted)
        off = np.abs(GGUFSource(tmp_path / "small.gguf").tensor(tensor.name))
        assert np.isfinite(off).all()


def test_one_tensor_at_a_time(
    seed_crystal: Crystal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.crystallize.export_gguf.STRIP", 1 << 14)
    export_crystal(seed_crystal, tmp_path / "first.gguf", "f32")  # what is imported is imported
    tracemalloc.start()
    try:
        made = export_crystal(seed_crystal, tmp_path / "again.gguf", "f32")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    largest = 4 * seed_crystal.spec.vocab_size * seed_crystal.spec.hidden_size
    assert peak < largest + (6 << 20) < 0.5 * made.tensor_bytes  # the rest is the vocabulary
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()


def test_what_stands_there_is_replaced_only_when_told(
    seed_crystal: Crystal, tmp_path: Path
) -> None:
    target, diary = tmp_path / "seed.gguf", tmp_path / "diary.txt"
    diary.write_text("dear diary")
    export_crystal(seed_crystal, target, groups=0)
    with pytest.raises(UsageError, match="already"):
        export_crystal(seed_crystal, target)
    with pytest.raises(UsageError, match="not a GGUF file"):
        export_crystal(seed_crystal, diary, overwrite=True)
    with pytest.raises(UsageError, match="folder"):
        export_crystal(seed_crystal, tmp_path, overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(UsageError, match="plain file"):
            export_crystal(seed_crystal, tmp_path / "pipe.gguf", overwrite=True)
        (tmp_path / "pipe.gguf").unlink()
    export_crystal(seed_crystal, target, "q8_0", overwrite=True)
    assert diary.read_text() == "dear diary"
    assert sorted(tmp_path.iterdir()) == [diary, target]


@pytest.mark.parametrize("options", [{"groups": -1}, {"groups": 99}, {"kind": "q4_k"}])
def test_what_cannot_be_exported(
    seed_crystal: Crystal, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="Choose"):
        export_crystal(seed_crystal, tmp_path / "seed.gguf", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


class Loud:
    """The seed with one weight too large for a float16."""

    def __init__(self, source: Source) -> None:
        self._source, self.spec = source, source.spec
        self.tokenizer_json, self.chat_template = source.tokenizer_json, source.chat_template

    def tensor(self, name: str) -> np.ndarray:
        weights = np.array(self._source.tensor(name))
        if name == "model.layers.1.mlp.up_proj.weight":
            weights[3, 5] = 1e5
        return weights


def test_weights_too_large_are_refused(seed_source: Source, tmp_path: Path) -> None:
    with pytest.raises(QualityError, match=r"F16.*layers\.1\.mlp\.up_proj"):
        export_source(Loud(seed_source), tmp_path / "loud.gguf", "loud")
    assert list(tmp_path.iterdir()) == []
    export_source(Loud(seed_source), tmp_path / "loud.gguf", "loud", "f32")


CHILD = """
import resource, signal, sys
from pathlib import Path
from h2q.core.errors import H2QError
from h2q.crystal import open_crystal
from h2q.crystallize.export import export_crystal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    export_crystal(open_crystal(Path(sys.argv[1])), Path(sys.argv[2]))
except H2QError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of file size are POSIX's")
@pytest.mark.parametrize("limit", [1000, 200_000, 3_000_001])
def test_a_full_disk_leaves_nothing(seed_path: Path, tmp_path: Path, limit: int) -> None:
    """The limit stands in for a full disk: in the header, in a tensor, in a tensor's middle."""
    command = [sys.executable, "-c", CHILD, str(seed_path), str(tmp_path / "x.gguf"), str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.startswith(ResourceError.__name__), result.stderr
    assert "full" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_is_swept(seed_crystal: Crystal, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".seed.gguf.{process.pid}.exporting").write_bytes(b"half")
    living = tmp_path / f".seed.gguf.{os.getppid()}.exporting"
    living.write_bytes(b"another's")
    export_crystal(seed_crystal, tmp_path / "seed.gguf", groups=0)
    assert sorted(tmp_path.iterdir()) == [living, tmp_path / "seed.gguf"]


def test_the_command(seed_path: Path, seed_crystal: Crystal, tmp_path: Path) -> None:
    target = tmp_path / "seed.gguf"
    arguments = ("export", seed_path, "--gguf", target)
    found = document(h2q(*arguments, "--type", "q8_0", "--groups", "1", "--json"))
    assert found["type"] == "Q8_0"
    assert found["bytes"] == target.stat().st_size > found["tensor_bytes"]
    assert found["crystal_bytes"] == crystal_bytes(seed_crystal, 1)
    assert h2q(*arguments).returncode == 2
    assert "refinement groups" in h2q(*arguments, "--overwrite").stdout
    text = tmp_path / "text.txt"
    text.write_text("The house stood on a hill, and the sea was below it. " * 30)
    options = ("--against", target, "--text", text, "--tokens", "300", "--json")
    measured = document(h2q("eval", seed_path, *options))
    assert measured["kl_mean"] < 0.02
