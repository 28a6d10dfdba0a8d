"""A registry with a small model, and works that make crystals of it in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from gguf_files import RandomLlama, sentencepiece_words, write_gguf
from h2q.crystal.store import Store
from h2q.orchestrator.house import WorkEvent
from h2q.orchestrator.works import Access, Works
from registry_server import Registry, serving
from small_llamas import BRIEF

QUICK = replace(BRIEF, ratio=4.0, calibration="The old house stood at the edge of the sea. " * 40)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    words = sentencepiece_words()
    write_gguf(path, RandomLlama(len(words.tokens), tied=True), words, Type.Q8_0)
    return path.read_bytes()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(Store(tmp_path / "home"), Access(private=True, paths=True, nice=0, options=QUICK))


def all_of(events: AsyncIterator[WorkEvent]) -> list[WorkEvent]:
    async def main() -> list[WorkEvent]:
        return [event async for event in events]

    return asyncio.run(main())


def pull(works: Works, name: str) -> list[WorkEvent]:
    return all_of(works.pull(name))


def left(works: Works) -> list[str]:
    """What a finished pull leaves of its sources and its growth."""
    places = [works.store.root / part for part in ("growing", "sources/blobs")]
    names = [path.name for place in places if place.exists() for path in place.iterdir()]
    return [name for name in names if not name.startswith("sha256-")]
