"""Models are created from installed ones, from uploads and from files of this machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.errors import H2QError, SourceError, TextError, UsageError
from h2q.crystal.store_names import Details
from h2q.orchestrator.house import Recipe
from h2q.orchestrator.modelfile import parse_modelfile
from h2q.orchestrator.uploads import Uploads
from h2q.orchestrator.works import Access, Works
from pulled import QUICK, all_of, left, pull, registry, weights, works
from registry_server import Registry
from small_crystals import write_small
from small_llamas import small_llama

__all__ = ["registry", "weights", "works"]
MODELFILE = '''
FROM base
PARAMETER temperature 0.3
PARAMETER stop END
SYSTEM """Be kind."""
TEMPLATE """{{ if .System }}{{ .System }}: {{ end }}{{ .Prompt }}
{{- if .Tools }}{{ json .Tools }}{{ end }}"""
MESSAGE user Hi
MESSAGE assistant Hello
LICENSE MIT
'''


def create(works: Works, name: str, recipe: Recipe) -> list[str]:
    return [event.status for event in all_of(works.create(name, recipe))]


def upload(works: Works, data: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    asyncio.run(Uploads(works.store.root / "sources").add(digest, pieces()))
    return digest


@pytest.fixture
def base(works: Works, tmp_path: Path) -> Details:
    """An installed model to begin from."""
    details = Details(system="Be brief.", parameters=(("top_k", 5), ("temperature", 1.0)))
    works.store.install(write_small(tmp_path / "small.crystal"), "base", details)
    return details


def test_a_modelfile_over_an_installed_model(works: Works, base: Details) -> None:
    told = create(works, "kind", parse_modelfile(MODELFILE))
    assert told[0].startswith("using existing layer sha256:")
    assert told[-2:] == ["writing manifest", "success"]
    found, before = works.store.find("kind"), works.store.find("base")
    assert found.files == before.files
    details = found.details
    assert dict(details.parameters) == {"top_k": 5, "temperature": 0.3, "stop": ("END",)}
    assert (details.system, details.license) == ("Be kind.", ("MIT",))
    assert details.messages == (("user", "Hi"), ("assistant", "Hello"))
    assert details.capabilities == ("completion", "tools")  # of the new template
    card = found.card(None)
    assert card.template.startswith("{{ if .System }}")  # as it was written
    assert before.details == base
    create(works, "plain", Recipe(base="kind", system=""))
    assert works.store.find("plain").details == replace(details, system="")
    create(works, "BASE", Recipe(base="base", system="again"))  # over itself
    assert [str(model.name) for model in works.store.models()].count("base:latest") == 1


def test_an_uploaded_file_becomes_a_model_and_is_grown_once(works: Works, weights: bytes) -> None:
    files = (("model.gguf", upload(works, weights)),)
    told = create(works, "mine", Recipe(files=files, system="A"))
    assert told[0] == "parsing GGUF"
    assert told[-1] == "success"
    assert left(works) == []
    upload(works, weights)
    again = create(works, "other", Recipe(files=files, system="B"))
    assert any(status.startswith("using existing layer") for status in again)
    assert not any(status.startswith("measure") for status in again)
    mine, other = works.store.find("mine"), works.store.find("other")
    assert mine.files == other.files
    assert (mine.details.system, other.details.system) == ("A", "B")
    assert mine.details.capabilities == ("completion",)
    with pytest.raises(UsageError, match="not uploaded"):
        create(works, "third", Recipe(files=files))  # it was needed no more


def test_a_folder_of_uploaded_files_becomes_a_model(works: Works, tmp_path: Path) -> None:
    small_llama(tmp_path / "small")
    files = [
        (file.name, upload(works, file.read_bytes()))
        for file in sorted((tmp_path / "small").iterdir())
    ]
    files.append(("run.py", upload(works, b"import os")))
    assert create(works, "mine", Recipe(files=tuple(files)))[-1] == "success"
    assert works.store.find("mine").details.origin["precision"] in ("F32", "BF16")
    assert left(works) == []


def test_a_file_of_this_machine(works: Works, weights: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(weights)
    assert create(works, "mine", Recipe(base=str(path), quantize="q8_0"))[-1] == "success"
    found = works.store.find("mine")
    assert found.details.origin["source"] == "model.gguf"
    assert str(tmp_path) not in str(found.details)
    assert path.read_bytes() == weights
    closed = Works(works.store, Access(nice=0, options=QUICK))
    with pytest.raises(H2QError):  # whoever reaches a server reaches no files
        create(closed, "stolen", Recipe(base=str(path)))


def test_a_base_that_is_not_installed_is_pulled(
    works: Works, registry: Registry, weights: bytes
) -> None:
    name = registry.add("tiny", weights, template="{{ .Prompt }} (Go)", system="Be brief.")
    assert create(works, "mine", Recipe(base=name, system="Sing."))[-1] == "success"
    details = works.store.find("mine").details
    assert (details.system, details.template) == ("Sing.", "{{ .Prompt }} (Go)")
    assert pull(works, name)[-1].status == "success"
    assert works.store.find(registry.installed("tiny")).details.system == "Be brief."


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        (Recipe(), UsageError),
        (Recipe(base="base", parameters=(("warmth", 1),)), UsageError),
        (Recipe(base="base", parameters=(("top_k", "many"),)), UsageError),
        (Recipe(base="base", messages=(("ghost", "Boo"),)), UsageError),
        (Recipe(base="base", template="{{ if .System }}"), TextError),
        (Recipe(base="base", template="{% if %}"), TextError),
        (Recipe(base="base", system="x" * (9 << 20)), UsageError),
        (Recipe(base="../base"), UsageError),
        (Recipe(base="base", quantize="q8_0"), UsageError),
        (Recipe(files=(("model.gguf", "sha256:12"),)), UsageError),
        (Recipe(files=(("model.gguf", "sha256:" + "0" * 64),)), UsageError),
    ],
)
def test_what_makes_no_sense_makes_nothing(
    works: Works, base: Details, recipe: Recipe, error: type[H2QError]
) -> None:
    with pytest.raises(error):
        create(works, "new", recipe)
    assert [str(model.name) for model in works.store.models()] == ["base:latest"]
    assert works.store.check() == []


def test_a_file_that_is_no_model_is_refused(works: Works) -> None:
    digest = upload(works, b"GGUF" + bytes(100))
    with pytest.raises(SourceError):
        create(works, "new", Recipe(files=(("model.gguf", digest),)))
    with pytest.raises(UsageError, match="quantization"):
        create(works, "new", Recipe(files=(("m.gguf", digest),), quantize="q1_1"))
    assert works.store.models() == []
