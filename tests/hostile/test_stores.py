"""Damaged and malicious Ollama stores: one error of our own each, nothing outside the store read,
nothing in it written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h2q.core.errors import SourceError
from h2q.sources.ollama_files import MANIFEST_LIMIT, TEXT_LIMIT
from h2q.sources.ollama_store import find_model, list_models
from ollama_stores import CONFIG_TYPE, GGUF, Store

NAME = "registry.ollama.ai/library/tiny/latest"
SECRET = b"what lies outside"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "secret").write_bytes(SECRET)
    store = Store(tmp_path / "models")
    store.add(NAME, template="{{ .Prompt }}", system="S", params='{"stop": ["x"]}')
    return store


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../secret",
        "sha256-../../secret",
        "../secret",
        "/etc/passwd",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "g" * 64,
        "sha256:" + "0" * 64 + "\n",
        "sha512:" + "0" * 64,
        "sha256:" + "0" * 60 + "/../",
        "",
        None,
        7,
        ["sha256"],
    ],
)
def test_digests_that_are_none(store: Store, digest: object) -> None:
    for entry in ("config", "layers"):
        manifest = json.loads((store.root / "manifests" / NAME).read_text())
        (manifest["config"] if entry == "config" else manifest["layers"][0])["digest"] = digest
        store.write(NAME, manifest)
        with pytest.raises(SourceError, match="malformed digest"):
            find_model("tiny", [store.root])


@pytest.mark.parametrize("size", [-1, 0, 1, 1 << 70, True, "204", None, 1.5])
def test_sizes_that_lie(store: Store, size: object) -> None:
    manifest = json.loads((store.root / "manifests" / NAME).read_text())
    manifest["layers"][0]["size"] = size
    store.write(NAME, manifest)
    with pytest.raises(SourceError, match=r"should be|malformed"):
        find_model("tiny", [store.root])


def blob_of(store: Store, index: int = 0) -> Path:
    manifest = json.loads((store.root / "manifests" / NAME).read_text())
    digest = manifest["layers"][index]["digest"].removeprefix("sha256:")
    return store.root / "blobs" / f"sha256-{digest}"


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    "how", ["gone", "short", "long", "folder", "pipe", "escape", "loop", "dead"]
)
def test_blobs_that_are_not_what_they_should_be(store: Store, how: str, index: int) -> None:
    blob = blob_of(store, index)
    data = blob.read_bytes()
    blob.unlink()
    outside = store.root.parent / "outside"
    outside.write_bytes(data)
    actions: dict[str, Callable[[], object]] = {
        "gone": lambda: None,
        "short": lambda: blob.write_bytes(data[:-1]),
        "long": lambda: blob.write_bytes(data + b"x"),
        "folder": blob.mkdir,
        "pipe": lambda: os.mkfifo(blob),
        "escape": lambda: blob.symlink_to(outside),
        "loop": lambda: blob.symlink_to(blob),
        "dead": lambda: blob.symlink_to("nowhere"),
    }
    actions[how]()
    with pytest.raises(SourceError):
        find_model("tiny", [store.root])


def test_flipped_bits(store: Store) -> None:
    for index in range(1, 4):
        blob = blob_of(store, index)
        data = blob.read_bytes()
        blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(SourceError, match="checksum"):
            find_model("tiny", [store.root])
        blob.write_bytes(data)
    blob = blob_of(store)
    blob.write_bytes(GGUF[:-1] + b"\0")
    model = find_model("tiny", [store.root])
    with pytest.raises(SourceError, match=r"damaged.*ollama pull tiny:latest"):
        model.verify()


def test_links_out_of_the_store(store: Store, tmp_path: Path) -> None:
    manifest = store.root / "manifests" / NAME
    (tmp_path / "elsewhere").write_text(manifest.read_text())
    manifest.unlink()
    manifest.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="leaves the store"):
        find_model("tiny", [store.root])
    assert list_models(store.root) == []
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(SourceError):
        find_model("tiny", [store.root])
    other = tmp_path / "other"
    Store(other).add(NAME)
    manifest.rmdir()
    manifest.parent.rmdir()
    manifest.parent.symlink_to(other / "manifests" / NAME.rsplit("/", 1)[0])
    with pytest.raises(SourceError, match="leaves the store"):
        find_model("tiny", [store.root])


def test_a_store_that_is_itself_a_link(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store.root)
    assert find_model("tiny", [link]).path.read_bytes() == GGUF


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"[]",
        b"{}",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"layers": {}}',
        b'{"layers": [7]}',
        b'{"layers": [], "layers": []}',
        b'{"layers": []}',
        b'{"layers": [], "config": 7}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"pad": "' + b" " * MANIFEST_LIMIT + b'"}',
    ],
)
def test_manifests_that_are_none(store: Store, text: bytes) -> None:
    store.write(NAME, text)
    with pytest.raises(SourceError):
        find_model("tiny", [store.root])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(keep=st.floats(0, 0.999))
def test_a_torn_manifest(store: Store, keep: float) -> None:
    whole = (store.root.parent / "whole.json").exists()
    path = store.root / "manifests" / NAME
    if not whole:
        (store.root.parent / "whole.json").write_bytes(path.read_bytes())
    text = (store.root.parent / "whole.json").read_bytes()
    store.write(NAME, text[: int(len(text) * keep)])
    with pytest.raises(SourceError):
        find_model("tiny", [store.root])


def layers(store: Store, *kinds: str) -> dict[str, Any]:
    return store.manifest([store.blob(GGUF + kind.encode(), kind) for kind in kinds])


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["model", "adapter"], "adapter"),
        (["adapter"], "adapter"),
        (["model", "projector"], "pictures or sound"),
        (["projector"], "pictures or sound"),
        (["tensor", "json"], "single tensors"),
        (["model", "pickle"], "not known"),
        (["model", "application/octet-stream"], "not known"),
        (["model", "model"], "2 files of weights"),
        (["draft"], "0 files of weights"),
        ([], "0 files of weights"),
    ],
)
def test_models_this_version_cannot_run(store: Store, kinds: list[str], words: str) -> None:
    store.write(NAME, layers(store, *kinds))
    with pytest.raises(SourceError, match=words):
        find_model("tiny", [store.root])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"remote_host": "https://ollama.com", "remote_model": "big"}, "elsewhere"),
        ({"model_format": "safetensors"}, "safetensors"),
        ({"model_format": 7}, "'7'"),
    ],
)
def test_configs_this_version_cannot_run(store: Store, config: dict[str, Any], words: str) -> None:
    store.config = config
    store.add(NAME)
    with pytest.raises(SourceError, match=words):
        find_model("tiny", [store.root])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("params", "[]"),
        ("params", '{"stop": [1]}'),
        ("params", '{"stop": {}}'),
        ("params", '{"temperature": 1e999}'),
        ("params", '{"temperature": NaN}'),
        ("params", '{"a": 1, "a": 2}'),
        ("params", "[" * 100_000),
        ("messages", "{}"),
        ("messages", '[{"role": "user"}]'),
        ("messages", '[{"role": "user", "content": 7}]'),
        ("messages", '[]}, {"x": ['),
        ("template", b"\xff\xfe\x00"),
        ("system", b"\xc3"),
        ("license", "x" * (TEXT_LIMIT + 1)),
        ("template", "x" * (TEXT_LIMIT + 1)),
    ],
)
def test_text_layers_that_lie(store: Store, kind: str, text: str | bytes) -> None:
    store.add(NAME, **{kind: text})
    with pytest.raises(SourceError):
        find_model("tiny", [store.root])


def test_a_config_blob_that_is_large(store: Store) -> None:
    manifest = store.manifest([store.blob(GGUF, "model")])
    manifest["config"] = store.blob(b'{"a": "' + b" " * TEXT_LIMIT + b'"}', CONFIG_TYPE)
    store.write(NAME, manifest)
    with pytest.raises(SourceError, match="exceeds"):
        find_model("tiny", [store.root])


def test_no_error_tells_a_path_or_writes(store: Store) -> None:
    blob_of(store).unlink()
    before = store.files()
    with pytest.raises(SourceError) as told:
        find_model("tiny", [store.root])
    assert str(store.root) not in str(told.value)
    assert store.files() == before
