"""A real server whose models change while it answers: by a command, by a folder, by others."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from h2q.bench.hot_update import cut_crystal
from h2q.core.errors import MissingModelError, NetworkError, UsageError
from h2q.crystal.store import Store
from served import Served, served, until

GREEDY = {"temperature": 0, "num_predict": 16}
ENDLESS = {"temperature": 0, "num_predict": 1_000_000, "num_ctx": 256}
READ = 1000  # tokens


@pytest.fixture(scope="module")
def other_path(seed_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_crystal(seed_path, tmp_path_factory.mktemp("other") / "other.crystal", 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched") / "grown.crystal"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, seed_path: Path, place: Path
) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with served(home, "--watch", f"seed={place}", "--warm", "64MiB", seed=seed_path) as found:
        yield found


def body(options: dict[str, Any]) -> dict[str, Any]:
    return {"model": "seed", "prompt": "Once upon a time", "raw": True, "options": options}


def say(server: Served, options: dict[str, Any] = GREEDY) -> str:
    status, answer = server.post("/api/generate", body(options) | {"stream": False})
    assert status == 200, answer
    return str(answer["response"])


def crystal(server: Served) -> str:
    """Which one answers, when all of it is in memory."""
    found = list[Any]()

    def whole() -> bool:
        say(server)
        models = [one for one in server.state()["models"] if one["name"] == "seed:latest"]
        found[:] = [one["state"] for one in models if one["state"]]
        return bool(found) and found[0]["planes"] == found[0]["all_planes"]

    assert until(whole)
    return str(found[0]["fingerprint"])


def updated(server: Served, *words: str) -> tuple[int, Any]:
    """What `h2q update` says: its exit code and document."""
    command = [sys.executable, "-m", "h2q", "update", *words, "--port", str(server.port), "--json"]
    environment = {**os.environ, "OLLAMA_HOST": ""}
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert "Traceback" not in told.stderr
    return told.returncode, json.loads(told.stdout)


def running(server: Served) -> int:
    """Workers that have the model in memory."""
    return len(json.loads(server.call("GET", "/api/ps")[1])["models"])


def test_a_stream_runs_across_an_update(server: Served, seed_path: Path, other_path: Path) -> None:
    before, said = crystal(server), say(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/api/generate", json.dumps(body(ENDLESS)))
    lines = connection.getresponse()
    assert lines.status == 200
    code, told = updated(server, "seed", str(other_path))
    assert code == 0, told
    assert told["before"] != told["after"]
    assert set(told["seconds"]) == {"store", "verify", "start", "probe", "swap"}
    assert crystal(server) != before
    assert running(server) == 2
    words = [json.loads(line) for line in islice(lines, READ)]
    assert not any(word.get("error") or word["done"] for word in words)
    assert "".join(word["response"] for word in words[:16]) == said
    lines.close()
    connection.close()
    assert until(lambda: running(server) == 1)
    page = server.call("GET", "/metrics")[1].decode()
    assert 'swap_total{model_name="seed:latest",result="success"} 1.0' in page
    code, told = updated(server, "seed", str(other_path))
    assert (code, told["before"]) == (0, told["after"])
    Store(server.home).install(seed_path, "whole", Store(server.home).find("seed").details)
    assert updated(server, "seed", "whole")[0] == 0
    assert (crystal(server), say(server)) == (before, said)


def test_what_cannot_be_is_said(server: Served, tmp_path: Path, other_path: Path) -> None:
    before = crystal(server)
    damaged = shutil.copytree(other_path, tmp_path / "damaged")
    (damaged / "base.safetensors").write_bytes(b"0" * 99)
    for code, words in (
        (MissingModelError.exit_code, ("nobody", str(other_path))),
        (MissingModelError.exit_code, ("seed", "nobody")),
        (UsageError.exit_code, ("seed", str(damaged))),
        (UsageError.exit_code, ("seed", str(tmp_path))),
        (NetworkError.exit_code, ("seed", "nobody", "--host", "127.0.0.2")),
    ):
        found, told = updated(server, *words)
        assert found == code, told
    assert crystal(server) == before
    page = server.call("GET", "/metrics")[1].decode()
    assert 'swap_total{model_name="seed:latest",result="rolled_back"} 2.0' in page


def test_a_crystal_that_comes_into_a_folder_takes_over(
    server: Served, place: Path, seed_path: Path
) -> None:
    before = crystal(server)
    cut_crystal(seed_path, place, 1)
    assert until(lambda: crystal(server) != before)


def test_what_another_process_installs_is_loaded(server: Served, seed_path: Path) -> None:
    def process() -> int:
        models = {model["name"]: model for model in server.state()["models"]}
        state = models["seed:latest"]["state"]
        return int(state["process"]) if state else 0

    say(server)
    before = process()
    store = Store(server.home)
    store.install(seed_path, "seed", store.find("seed").details)
    assert until(lambda: process() not in (0, before))  # though nobody asks


def test_a_folder_for_no_model_is_refused(tmp_path: Path) -> None:
    for watch, code in (("seed", UsageError), (f"seed={tmp_path}", MissingModelError)):
        command = [sys.executable, "-m", "h2q", "serve", "--port", "0", "--watch", watch]
        environment = {**os.environ, "H2Q_HOME": str(tmp_path)}
        told = subprocess.run(command, capture_output=True, check=False, env=environment)
        assert told.returncode == code.exit_code
