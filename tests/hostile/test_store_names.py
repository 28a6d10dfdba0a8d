"""Names of models in an Ollama store that are none: no part ever becomes a path elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.core.errors import SourceError
from h2q.core.model_name import parse_name
from h2q.sources.ollama_store import find_model
from ollama_stores import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "secret").write_bytes(b"what lies outside")
    store = Store(tmp_path / "models")
    store.add("registry.ollama.ai/library/tiny/latest")
    return store


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "..",
        "../../secret",
        "a/../b",
        "a/b/../c",
        "/etc/passwd",
        "a/b/c/d",
        "https://h/n/m",
        "tiny:..",
        "tiny:",
        "tiny:a/b",
        "tiny@sha256:00",
        ".tiny",
        "-tiny",
        "ti ny",
        "tiny\n",
        "tiny\0",
        "ti\\ny",
        "ｔiny",
        "na.me/space",
        "a" * 81,
        "tiny:" + "t" * 81,
        "h" * 351 + "/n/m",
        "~",
        "$HOME",
        "*",
    ],
)
def test_names_that_are_none(store: Store, text: str) -> None:
    with pytest.raises(SourceError):
        find_model(text, [store.root])


@given(st.text(max_size=40))
def test_a_name_never_leaves_its_folder(text: str) -> None:
    try:
        name = parse_name(text)
    except SourceError:
        return
    path = Path("/store", *name.parts)
    assert Path(os.path.normpath(path)) == path
    assert len(path.parts) == 6
