"""The commands for installed and running models: real processes, a real server, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h2q.crystal.store import Store
from h2q.crystal.store_names import Details
from scripted_server import Running
from test_commands import document


@pytest.fixture
def home(tmp_path: Path, seed_path: Path) -> Iterator[Path]:
    """A store with the seed's crystal."""
    Store(tmp_path / "home").install(seed_path, "seed", Details(system="Be brief."))
    yield tmp_path / "home"
    assert Store(tmp_path / "home").check() == []


def h2q(home: Path, *arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "H2Q_HOME": str(home), "OLLAMA_HOST": "127.0.0.1:1", **more}
    return subprocess.run(
        [sys.executable, "-m", "h2q", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=home,
        check=False,
    )


def test_models_are_listed_copied_and_removed(home: Path) -> None:
    told = h2q(home, "ls").stdout.splitlines()
    assert told[0].split() == ["NAME", "ID", "SIZE", "PARAMETERS", "PLANES", "MODIFIED"]
    assert told[1].split()[0] == "seed:latest"
    assert "MiB" in told[1]
    assert told[1].endswith("just now")
    assert document(h2q(home, "cp", "seed", "org/other:v1", "--json"))["name"] == "org/other:v1"
    models = document(h2q(home, "ls", "--json"))["models"]
    assert [model["name"] for model in models] == ["org/other:v1", "seed:latest"]
    assert models[0]["digest"] == models[1]["digest"]
    removed = document(h2q(home, "rm", "SEED", "--json"))
    assert removed == {"removed": ["seed:latest"], "freed_bytes": 0}
    result = h2q(home, "rm", "org/other:v1", "nobody", "--json")
    assert result.returncode == 12
    assert document(result)["error"]["type"] == "MissingModelError"
    assert Store(home).find("org/other:v1")  # all or none
    assert document(h2q(home, "rm", "org/other:v1", "--json"))["freed_bytes"] > 1 << 20
    assert h2q(home, "ls").stdout.count("\n") == 1


def test_names_stand_for_crystals(home: Path) -> None:
    shown = document(h2q(home, "show", "seed", "--json"))
    assert shown["model"]["family"] == "llama"
    assert document(h2q(home, "verify", "seed", "--json"))["ok"] is True
    spoken = document(h2q(home, "run", "Seed:latest", "Once", "--max-tokens", "4", "--json"))
    assert spoken["tokens"] == 4
    result = h2q(home, "show", "nobody", "--json")
    assert result.returncode == 4
    assert "Traceback" not in result.stderr


def test_a_model_is_created_from_a_modelfile(home: Path) -> None:
    (home / "Modelfile").write_text('FROM seed\nSYSTEM "Sing."\nPARAMETER top_k 3\n')
    result = h2q(home, "create", "singer", "--json")
    assert document(result)["name"] == "singer:latest"
    assert "writing manifest" in result.stderr
    details = Store(home).find("singer").details
    assert (details.system, details.parameters) == ("Sing.", (("top_k", 3),))
    (home / "Modelfile").write_text("FROM seed\nPARAMETER warmth 3\n")
    for arguments in (("create", "x"), ("create", "x", "-f", "nowhere"), ("pull", "../x")):
        result = h2q(home, *arguments, "--json")
        assert result.returncode == 2, arguments
        assert document(result)["error"]["type"] == "UsageError"
    assert len(Store(home).models()) == 2


def test_a_running_server_is_asked(home: Path, scripted: Running) -> None:
    where = ("--host", "127.0.0.1", "--port", str(scripted.port))
    assert document(h2q(home, "ps", *where, "--json"))["models"] == []
    scripted.house.kept["scripted:latest"] = -1
    told = h2q(home, "ps", OLLAMA_HOST=f"127.0.0.1:{scripted.port}").stdout.splitlines()
    assert told[0].split() == ["NAME", "ID", "MEMORY", "CONTEXT", "UNTIL"]
    assert told[1].split()[0] == "scripted:latest"
    assert told[1].endswith("for ever")
    assert document(h2q(home, "stop", "scripted", *where, "--json"))["stopped"] == "scripted"
    assert scripted.house.kept == {}
    result = h2q(home, "stop", "nobody", *where, "--json")
    assert result.returncode == 12


def test_where_no_server_is(home: Path) -> None:
    for command in (("ps",), ("stop", "seed")):
        result = h2q(home, *command, "--json")
        assert result.returncode == 10
        assert "h2q serve" in document(result)["error"]["fix"]


def test_a_removed_model_is_stopped_where_it_runs(home: Path, scripted: Running) -> None:
    digest = Store(home).find("seed").digest
    card = scripted.house.card("scripted")
    scripted.house.cards["scripted:latest"] = replace(card, digest=digest)
    scripted.house.kept["scripted:latest"] = -1
    try:
        result = h2q(home, "rm", "seed", "--port", str(scripted.port), "--host", "127.0.0.1")
    finally:
        scripted.house.cards["scripted:latest"] = card
    assert result.returncode == 0
    assert "freed" in result.stderr
    assert scripted.house.kept == {}
    assert json.loads(h2q(home, "ls", "--json").stdout)["models"] == []
