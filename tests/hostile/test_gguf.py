"""Damaged and malicious GGUF files, by class: each is refused by one error of ours that says why,
in time and memory that follow from the file's size.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    I32,
    I64,
    STRING,
    U32,
    U64,
    File,
    Tensor,
    array,
    entry,
    text,
)
from gguf_doors import opened, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.sources.gguf_file import GGUFSource

HUGE = (2**31, 2**32 + 1, 2**62, 2**63, 2**64 - 1)
SOUND = File().bytes()


def tries(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def test_the_sound_file_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path, SOUND)
    for tensor in tensors(source.spec):
        assert source.tensor(tensor.name).shape == tensor.shape
    assert source.spec.tie_word_embeddings


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read(tmp_path: Path, version: int) -> None:
    assert opened(tmp_path, File(version=version).bytes()).spec.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("version", "reason"),
    [(0, "version 0"), (1, "version 1 "), (4, "version 4"), (3 << 24, "big endian")],
)
def test_other_versions_are_not(tmp_path: Path, version: int, reason: str) -> None:
    refused(tmp_path, File(version=version).bytes(), reason)


# Class 1: counts, lengths and dimensions


@pytest.mark.parametrize("count", [*HUGE, 2**16 + 1, 60_000])
def test_counts_that_lie(tmp_path: Path, count: int) -> None:
    refused(tmp_path, File(tensor_count=count).bytes(), r"claims .* tensors|too short for")
    refused(tmp_path, File(key_count=count).bytes(), r"claims .* keys|too short for")


@pytest.mark.parametrize("count", [0, 5])
def test_counts_that_are_a_little_wrong(tmp_path: Path, count: int) -> None:
    with pytest.raises(SourceError):
        opened(tmp_path, File(tensor_count=count).bytes())
    with pytest.raises(SourceError):
        opened(tmp_path, File(key_count=count).bytes())


@pytest.mark.parametrize("length", [*HUGE, 2**20])
def test_lengths_that_lie(tmp_path: Path, length: int) -> None:
    file = File()
    file.keys["x"] = text("x", length) + struct.pack("<IB", 0, 1)
    refused(tmp_path, file.bytes(), r"key claims|ends in the middle")
    file.keys["x"] = text("x") + struct.pack("<I", STRING) + text("y", length)
    refused(tmp_path, file.bytes(), r"value of 'x' claims|ends in the middle")
    for kind in (STRING, U32, I64, BOOL):
        file.put_array("x", kind, [], length)
        refused(tmp_path, file.bytes(), r"elements of 'x'")


@pytest.mark.parametrize(
    "shape",
    [
        (2**63, 2),
        (2**32, 2**32),
        (2**62, 4),
        (2**31, 2**31, 2, 2),
        (2**64 - 1,),
        (0, 32),
        (32, 0),
        (2**24, 2**24),
    ],
)
def test_dimensions_that_overflow(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = File()
    file.tensors[0] = Tensor("token_embd.weight", shape, data=bytes(64))
    refused(tmp_path, file.bytes(), r"not possible|beyond the end")


@pytest.mark.parametrize("rank", [0, 5, 2**31, 2**32 - 1])
def test_ranks_that_lie(tmp_path: Path, rank: int) -> None:
    file = File()
    file.tensors[0] = Tensor("token_embd.weight", (32, 263), rank=rank)
    refused(tmp_path, file.bytes(), "dimensions")


# Class 2: places of tensors


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (2**64 - 32, "beyond the end"),
        (2**63, "beyond the end"),
        (1 << 20, "beyond the end"),
        (33, "not aligned"),
        (0, "overlaps"),
        (263 * 128 + 32, "hole|overlaps"),
        (263 * 128 - 32, "overlaps"),
    ],
)
def test_offsets_that_lie(tmp_path: Path, offset: int, reason: str) -> None:
    file = File()
    file.tensors[1].offset = offset
    refused(tmp_path, file.bytes(), reason)


def test_a_hole_between_tensors(tmp_path: Path) -> None:
    file = File()
    file.tensors[-1].data = bytes(32) + file.tensors[-1].body()
    refused(tmp_path, file.bytes(), "follow the last tensor")
    file.tensors[0].data = file.tensors[0].body() + bytes(32)
    refused(tmp_path, file.bytes(), "hole before")


# Class 3: alignment


@pytest.mark.parametrize("alignment", [0, 1, 3, 33, 2**17, 2**31, 2**32 - 1])
def test_alignments_that_are_none(tmp_path: Path, alignment: int) -> None:
    file = File()
    file.put("general.alignment", U32, alignment)
    refused(tmp_path, file.bytes(), "not a power of two")


@pytest.mark.parametrize(("kind", "content"), [(U64, 32), (I32, 32), (F32, 32.0), (STRING, "32")])
def test_alignments_of_another_type(tmp_path: Path, kind: int, content: object) -> None:
    file = File()
    file.put("general.alignment", kind, content)
    refused(tmp_path, file.bytes(), "alignment is not of type")


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_other_alignments_are_read(tmp_path: Path, alignment: int) -> None:
    file = File(alignment=alignment)
    file.put("general.alignment", U32, alignment)
    expected = opened(tmp_path, SOUND).tensor("model.norm.weight")
    found = opened(tmp_path, file.bytes()).tensor("model.norm.weight")
    np.testing.assert_array_equal(found, expected)


# Class 4: types


def put(key: str, data: bytes) -> Callable[[File], None]:
    return lambda file: file.keys.update({key: data})


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (put("x", text("x") + struct.pack("<II", 13, 0)), "unknown type 13"),
        (put("x", text("x") + struct.pack("<II", 2**32 - 1, 0)), "unknown type"),
        (put("x", text("x") + struct.pack("<IIQ", ARRAY, 99, 0)), "unknown type 99"),
        (put("x", text("x") + struct.pack("<IIQ", ARRAY, ARRAY, 1) * 99), "array of arrays"),
        (put("x", entry("general.architecture", STRING, "llama")), "appears twice"),
        (put("x", entry("", U32, 1)), "key is empty"),
        (put("x", entry(b"\xff\xfe", U32, 1)), "not UTF-8"),
        (put("x", entry("x", STRING, b"\xc3\x28")), "not UTF-8"),
        (put("x", entry("x", BOOL, 2)), "neither true nor false"),
        (put("x", array("x", BOOL, [0, 1, 2])), "neither true nor false"),
        (lambda file: setattr(file.tensors[0], "kind", 4), "unknown ggml type 4"),
        (lambda file: setattr(file.tensors[0], "kind", 2**31), "unknown ggml type"),
        (lambda file: setattr(file.tensors[0], "kind", 12), "do not split into Q4_K"),
        (lambda file: setattr(file.tensors[0], "kind", 28), "beyond the end|overlaps"),
        (lambda file: setattr(file.tensors[1], "name", "token_embd.weight"), "there twice"),
        (lambda file: setattr(file.tensors[1], "name", ""), "no name"),
        (lambda file: setattr(file.tensors[1], "name", b"\xff"), "not UTF-8"),
        (lambda file: setattr(file.tensors[1], "name", "n" * 128), "name claims"),
    ],
)
def test_types_that_lie(tmp_path: Path, harm: Callable[[File], None], reason: str) -> None:
    file = File()
    harm(file)
    refused(tmp_path, file.bytes(), reason)


@pytest.mark.parametrize(("kind", "size"), [(9, 40), (24, 32), (28, 256)])
def test_types_the_package_cannot_decode(tmp_path: Path, kind: int, size: int) -> None:
    file = File()
    file.tensors[7] = Tensor("blk.0.ffn_gate.weight", (32, 32), kind, data=bytes(32 * size))
    refused(tmp_path, file.bytes(), "not supported")


# Class 7: damage


@pytest.mark.parametrize("data", [b"", b"G", b"GGUF", b"GGUF\3\0\0\0", b"GGML" + SOUND[4:]])
def test_files_that_are_none(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, r"not a GGUF file|middle of its header")


@pytest.mark.parametrize("tail", [b"\0" * 33, b"garbage" * 100])
def test_trailing_garbage(tmp_path: Path, tail: bytes) -> None:
    refused(tmp_path, File(tail=tail).bytes(), "follow the last tensor")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone.gguf"):
        with pytest.raises(SourceError, match="no such file"):
            GGUFSource(place)


@tries(100)
@given(keep=st.integers(0, len(SOUND) - 1))
def test_truncated_files(tmp_path: Path, keep: int) -> None:
    with pytest.raises(SourceError):
        opened(tmp_path, SOUND[:keep])


def read_all(folder: Path, data: bytes) -> None:
    """Either everything is read, or SourceError; nothing else may come out."""
    with contextlib.suppress(SourceError):
        source = opened(folder, data)
        for tensor in tensors(source.spec):
            assert np.isfinite(source.tensor(tensor.name)).all()


HEADER_END = len(SOUND) - sum(len(t.body()) for t in File().tensors)


@tries(400)
@given(
    flips=st.lists(
        st.tuples(st.integers(0, HEADER_END + 200), st.integers(0, 7)), min_size=1, max_size=4
    )
)
def test_flipped_bits(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for place, bit in flips:
        data[place] ^= 1 << bit
    read_all(tmp_path, bytes(data))


@tries(200)
@given(place=st.integers(4, HEADER_END), junk=st.binary(max_size=24), cut=st.integers(0, 24))
def test_spliced_bytes(tmp_path: Path, place: int, junk: bytes, cut: int) -> None:
    read_all(tmp_path, SOUND[:place] + junk + SOUND[place + cut :])


@tries(100)
@given(junk=st.binary(max_size=300))
def test_junk_after_the_magic(tmp_path: Path, junk: bytes) -> None:
    read_all(tmp_path, b"GGUF\3\0\0\0" + junk)
