"""A model of a running Ollama is grown from its store, and its name then means the crystal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from h2q.bench.scripted import ScriptedHouse
from h2q.crystallize import Options
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.orchestrator.works import Access
from ollama_stores import Store as OllamaStore
from other_ollama import LINES, Other, other_ollama
from pulled import QUICK, weights
from scripted_server import Running, running

__all__ = ["weights"]
BODY = {"model": "theirs", "prompt": "Once", "raw": True, "options": {"num_predict": 3}}


@contextmanager
def bridged(home: Path, options: Options) -> Iterator[tuple[Running, Other]]:
    house = ResourceOrchestrator(root=home, access=Access(nice=0, options=options))
    with other_ollama() as other, running(
        house=cast("ScriptedHouse", house), ollama=other.address, crystallize=True
    ) as server:  # fmt: skip
        yield server, other


@pytest.fixture
def store(tmp_path: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> OllamaStore:
    found = OllamaStore(tmp_path / "ollama")
    found.add("registry.ollama.ai/library/theirs/latest", weights, system="Be brief.")
    monkeypatch.setenv("OLLAMA_MODELS", str(found.root))
    return found


def test_a_crystal_takes_over(tmp_path: Path, store: OllamaStore) -> None:
    before = store.files()
    with bridged(tmp_path / "home", QUICK) as (server, other):
        assert server.call("POST", "/api/generate", BODY)[2] == b"".join(LINES)
        bridge = server.app.bridge
        assert bridge is not None
        growth = bridge.growths["theirs"]
        assert server.until(lambda: growth.status == "success" or growth.error, 120)
        assert growth.error == ""
        asked = len(other.asked)
        lines = server.lines("/api/generate", BODY)
        assert lines[-1]["eval_count"] == 3
        assert len(other.asked) == asked
        shown = server.post("/api/show", {"model": "theirs"})[1]
        assert shown["system"] == "Be brief."
        state = json.loads(server.call("GET", "/api/h2q/state")[2])
        assert state["bridge"]["growths"]["theirs"]["status"] == "success"
        server.post("/api/h2q/control", {"model": "theirs", "wish": "unload"})
    assert store.files() == before


def test_one_that_cannot_hold_its_target_stays_there(tmp_path: Path, store: OllamaStore) -> None:
    impossible = replace(QUICK, ratio=None, bits=0.6)
    with bridged(tmp_path / "home", impossible) as (server, _):
        bridge = server.app.bridge
        assert bridge is not None
        assert server.call("POST", "/api/generate", BODY)[2] == b"".join(LINES)
        assert server.until(lambda: bridge.growths["theirs"].error, 120)
        assert server.call("POST", "/api/generate", BODY)[2] == b"".join(LINES)
        assert json.loads(server.call("GET", "/api/ps")[2])["models"] == []
