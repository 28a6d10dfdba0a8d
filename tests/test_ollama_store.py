"""Names and models of a local Ollama store, built here in its real layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gguf_files import RandomLlama, sentencepiece_words, write_gguf
from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.events import Progress
from h2q.core.model_name import OllamaName, parse_name
from h2q.sources import open_source
from h2q.sources.ollama_model import Message, Parameter
from h2q.sources.ollama_store import SERVICE_STORE, find_model, list_models, stores
from ollama_stores import GGUF, Store

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest")),
        ("llama3.2:3b", ("registry.ollama.ai", "library", "llama3.2", "3b")),
        ("jane/mine", ("registry.ollama.ai", "jane", "mine", "latest")),
        ("hf.co/org/model:Q4_K_M", ("hf.co", "org", "model", "Q4_K_M")),
        ("localhost:5000/a/b", ("localhost:5000", "a", "b", "latest")),
        ("localhost:5000/a/b:c", ("localhost:5000", "a", "b", "c")),
        ("_x", ("registry.ollama.ai", "library", "_x", "latest")),
    ],
)
def test_names(text: str, parts: tuple[str, ...]) -> None:
    assert parse_name(text).parts == parts


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (("registry.ollama.ai", "library", "llama3.2", "latest"), "llama3.2:latest"),
        (("registry.ollama.ai", "jane", "mine", "1"), "jane/mine:1"),
        (("hf.co", "library", "m", "1"), "hf.co/library/m:1"),
    ],
)
def test_short_names_lead_back(name: tuple[str, str, str, str], short: str) -> None:
    assert str(OllamaName(*name)) == short
    assert parse_name(short).parts == name


def test_everything_a_model_brings(store: Store) -> None:
    store.config = {"model_format": "gguf", "model_family": "llama", "renderer": "r", "parser": "p"}
    path = store.add(
        f"{LIBRARY}/tiny/latest",
        template="{{ .Prompt }}",
        system="Be brief.",
        params='{"stop": ["<|end|>", "\\n"], "temperature": 0.5, "num_ctx": 4096, "raw": true}',
        messages='[{"role": "user", "content": "Hello"}]',
        license="The first.",
    )
    manifest = json.loads(path.read_text())
    manifest["layers"].append(store.blob(b"The second.", "license"))
    path.write_text(json.dumps(manifest))
    before = store.files()
    model = find_model("tiny", [store.root])
    assert model.path.read_bytes() == GGUF
    assert model.path == store.root / "blobs" / f"sha256-{model.digest}"
    assert model.size == len(GGUF)
    assert (model.template, model.system) == ("{{ .Prompt }}", "Be brief.")
    assert model.parameters == (
        Parameter("stop", ("<|end|>", "\n")),
        Parameter("temperature", 0.5),
        Parameter("num_ctx", 4096),
        Parameter("raw", True),
    )
    assert model.messages == (Message("user", "Hello"),)
    assert model.license == ("The first.", "The second.")
    assert (model.renderer, model.parser) == ("r", "p")
    heard: list[Progress] = []
    model.verify(heard.append)
    assert (heard[-1].done, heard[-1].total, heard[-1].unit) == (len(GGUF), len(GGUF), "bytes")
    assert store.files() == before


def test_a_model_with_nothing_but_weights(store: Store) -> None:
    store.add(f"{LIBRARY}/bare/latest", prompt="old template")
    model = find_model("bare", [store.root])
    assert (model.template, model.system, model.renderer) == ("old template", None, None)
    assert model.parameters == model.messages == model.license == ()


@pytest.mark.parametrize(("file", "written"), [("-", "-"), ("-", ":"), (":", "-"), (":", ":")])
def test_both_ways_to_write_a_digest(tmp_path: Path, file: str, written: str) -> None:
    store = Store(tmp_path / "models", separator=file)
    path = store.add(f"{LIBRARY}/tiny/latest", system="S")
    path.write_text(path.read_text().replace("sha256:", f"sha256{written}"))
    model = find_model("tiny", [store.root])
    assert model.path.read_bytes() == GGUF
    model.verify()


def test_names_match_in_any_case(store: Store) -> None:
    store.add("HF.co/Org/Model-GGUF/Q4_K_M")
    found = find_model("hf.co/org/model-gguf:q4_k_m", [store.root])
    assert str(found.name) == "HF.co/Org/Model-GGUF:Q4_K_M"
    store.add("HF.co/Org/MODEL-GGUF/Q4_K_M", weights=GGUF + b"2")
    with pytest.raises(SourceError, match="MODEL-GGUF and Model-GGUF"):
        find_model("hf.co/org/model-gguf:q4_k_m", [store.root])
    assert find_model("HF.co/Org/MODEL-GGUF:Q4_K_M", [store.root]).size == len(GGUF) + 1


def test_a_list_passes_over_what_is_broken(store: Store) -> None:
    store.add(f"{LIBRARY}/b/2")
    store.add(f"{LIBRARY}/a/latest")
    store.add("hf.co/org/c/Q8_0")
    store.write(f"{LIBRARY}/empty/latest", b"")
    store.write(f"{LIBRARY}/torn/latest", b'{"schemaVersion": 2, "la')
    store.write(f"{LIBRARY}/.hidden/latest", b"{}")
    (store.root / "manifests" / "stray").write_bytes(b"x")
    assert [str(name) for name in list_models(store.root)] == [
        "a:latest",
        "b:2",
        "hf.co/org/c:Q8_0",
    ]
    assert list_models(store.root / "nowhere") == []


def test_an_unknown_name_tells_the_known_ones(store: Store) -> None:
    with pytest.raises(SourceError, match="ollama pull gone:latest"):
        find_model("gone", [store.root])
    store.add(f"{LIBRARY}/here/latest")
    with pytest.raises(SourceError, match=r"no model gone:latest .*Known models are here:latest\."):
        find_model("gone", [store.root])
    for index in range(30):
        store.add(f"{LIBRARY}/m{index}/latest")
    with pytest.raises(SourceError, match=r"here:latest, .* and more\."):
        find_model("here:3b", [store.root])


def test_where_stores_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    assert stores() == [tmp_path / ".ollama" / "models", SERVICE_STORE]
    mine, other = Store(tmp_path / ".ollama" / "models"), Store(tmp_path / "other")
    mine.add(f"{LIBRARY}/tiny/latest")
    other.add(f"{LIBRARY}/tiny/latest", weights=GGUF + b"other")
    assert find_model("tiny").size == len(GGUF)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "other"))
    assert find_model("tiny").size == len(GGUF) + 5
    assert stores() == [tmp_path / "other"]


def test_the_first_store_that_has_it(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "1"), Store(tmp_path / "2")
    first.add(f"{LIBRARY}/a/latest")
    second.add(f"{LIBRARY}/b/latest")
    places = [tmp_path / "none", first.root, second.root]
    assert find_model("b", places).path.is_relative_to(second.root)
    with pytest.raises(SourceError, match="a:latest, b:latest"):
        find_model("c", places)


def test_a_stored_model_is_the_file_it_was_made_of(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = sentencepiece_words()
    file = tmp_path / "model.gguf"
    write_gguf(file, RandomLlama(len(words.tokens)), words)
    store.add(f"{LIBRARY}/random/latest", weights=file.read_bytes(), template="{{ .Prompt }}")
    monkeypatch.setenv("OLLAMA_MODELS", str(store.root))
    before, heard = store.files(), list[Progress]()
    found, direct = open_source("ollama:random", heard.append), open_source(file)
    assert found.spec == direct.spec
    for tensor in tensors(found.spec):
        assert np.array_equal(found.tensor(tensor.name), direct.tensor(tensor.name))
    assert found.tokenizer_json() == direct.tokenizer_json()
    assert heard[-1].done == file.stat().st_size
    assert store.files() == before
    blob = find_model("random").path
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        open_source("ollama:random")
