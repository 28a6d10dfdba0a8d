"""Small files that would become large, never end or never answer: each door refuses them within
bounds of memory and time that a process of its own is held to.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import opened, refused

from conftest import SEED
from ollama_stores import Store
from small_crystals import write_small

WEIGHTS = "model.safetensors"
NAME = "registry.ollama.ai/library/tiny/latest"
MANY = (1 << 23) + 1  # values in one JSON text


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "model"))


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    return write_small(tmp_path / "m.crystal")


def many(key: str = "a") -> bytes:
    """Text of 16 MiB that would take half a GiB as Python lists."""
    return f'{{"{key}":['.encode() + b"[]," * (MANY // 2) + b"[]]}"


def deep(key: str = "a") -> bytes:
    return f'{{"{key}":'.encode() + b"[" * 200_000 + b"]" * 200_000 + b"}"


def long_number(key: str = "a") -> bytes:
    return f'{{"{key}":'.encode() + b"9" * 900_000 + b"}"


def with_header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


BOMBS = [many, deep, long_number]


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize(
    "file", ["config.json", "generation_config.json", "tokenizer_config.json", "index", "header"]
)
def test_json_bombs_in_a_checkpoint(model: Path, file: str, bomb: Callable[..., bytes]) -> None:
    if file == "header":
        (model / WEIGHTS).write_bytes(with_header(bomb()))
    elif file == "index":
        (model / WEIGHTS).unlink()
        (model / "model.safetensors.index.json").write_bytes(bomb("weight_map"))
    else:
        (model / file).write_bytes(bomb("chat_template"))
    refused("source", model, "SourceError")


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("door", ["crystal", "verify"])
def test_json_bombs_in_a_crystal(crystal: Path, door: str, bomb: Callable[..., bytes]) -> None:
    sound = (crystal / "crystal.json").read_bytes()
    (crystal / "crystal.json").write_bytes(bomb("groups")[: 16 << 20])
    refused(door, crystal)
    (crystal / "crystal.json").write_bytes(sound)
    (crystal / ".verified.json").write_bytes(bomb()[: 1 << 20])
    assert opened(door, crystal) == "opened"  # the stamp is only not believed
    (crystal / "certificate.json").write_bytes(bomb())
    (crystal / "tokenizer.json").write_bytes(bomb())
    if door == "verify":
        refused(door, crystal, "certificate.json")


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_bombs_in_a_store(tmp_path: Path, bomb: Callable[..., bytes]) -> None:
    store = Store(tmp_path / "models")
    store.add(NAME)
    store.write(NAME, bomb("layers")[: 4 << 20])
    refused("store", store.root, "SourceError")


@pytest.mark.parametrize("file", ["crystal.json", "base.safetensors", "certificate.json"])
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "loop", "dead"])
def test_what_is_no_file_in_a_crystal(crystal: Path, file: str, what: str) -> None:
    replace(crystal / file, what)
    refused("verify", crystal)
    if file != "certificate.json":
        refused("crystal", crystal, "CrystalError")


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "loop", "dead"])
def test_what_is_no_file_beside_a_crystal(crystal: Path, what: str) -> None:
    replace(crystal / ".verified.json", what)
    assert opened("crystal", crystal) == "opened"
    replace(crystal / "tokenizer.json", what)
    refused("tokenizer", crystal / "tokenizer.json", "TextError")
    replace(crystal / "chat_template.jinja", what)
    refused("verify", crystal)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", WEIGHTS])
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "loop", "dead"])
def test_what_is_no_file_in_a_checkpoint(model: Path, file: str, what: str) -> None:
    replace(model / file, what)
    refused("source", model, "SourceError")


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "loop", "dead"])
def test_what_is_no_gguf_file(tmp_path: Path, what: str) -> None:
    replace(tmp_path / "m.gguf", what)
    refused("source", tmp_path / "m.gguf", "SourceError")


def replace(path: Path, what: str) -> None:
    path.unlink(missing_ok=True)
    makers: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path.name),
        "dead": lambda: path.symlink_to("nowhere"),
    }
    makers[what]()


@pytest.mark.parametrize("shape", [[1 << 47] * 8, [1 << 48], [-1], [1 << 200], [1.0], [True], [[]]])
def test_shapes_that_overflow(model: Path, shape: list[object]) -> None:
    for end in (0, 4, (1 << 48) - 1, 1 << 64):
        row = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
        (model / WEIGHTS).write_bytes(with_header(json.dumps({"w": row}).encode()) + bytes(4))
        refused("source", model, "SourceError")


@pytest.mark.parametrize("dtype", [None, 7, [], {}, "F31", "", "f32"])
def test_types_that_are_none(model: Path, crystal: Path, dtype: object) -> None:
    row = {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}
    (model / WEIGHTS).write_bytes(with_header(json.dumps({"w": row}).encode()) + bytes(4))
    refused("source", model, "unknown type")
    (crystal / "base.safetensors").write_bytes((model / WEIGHTS).read_bytes())
    refused("crystal", crystal, "CrystalError")
    refused("verify", crystal)


def test_weights_that_are_pickled_are_not_opened(model: Path) -> None:
    (model / WEIGHTS).rename(model / "pytorch_model.bin")
    refused("source", model, "never unpickled")
