"""What happens to models in a real server is counted where it happens, whoever looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from h2q.crystal.store import Store
from h2q.crystal.store_names import Details
from served import Served, served, until

GREEDY = {"temperature": 0, "num_predict": 8}


@pytest.fixture
def server(tmp_path: Path, seed_path: Path) -> Iterator[Served]:
    """Two models, and memory for one of them at a time."""
    home = tmp_path / "home"
    Store(home).install(seed_path, "other", Details(template="{{ messages[0].content }}"))
    with served(home, "--memory", "200MiB", seed=seed_path) as found:
        yield found


def say(server: Served, model: str, **more: object) -> None:
    body = {"model": model, "prompt": "Once", "raw": True, "stream": False, "options": GREEDY}
    status, answer = server.post("/api/generate", body | more)
    assert (status, answer["eval_count"]) == (200, 8), answer


def counted(server: Served, name: str) -> dict[tuple[str, str], float]:
    """Values of a metric by model and its other label, those of 0 left out."""
    page = server.call("GET", "/metrics")[1].decode()
    found = re.findall(rf'^{name}{{model_name="([^"]+)"(?:,\w+="(\w+)")?}} (.+)$', page, re.M)
    return {(model, label): float(value) for model, label, value in found if float(value)}


def test_models_that_are_let_go_are_counted_by_why(server: Served) -> None:
    say(server, "seed")
    assert counted(server, "evictions_total") == {}
    say(server, "other")
    budget = {("seed:latest", "budget"): 1.0}
    assert counted(server, "evictions_total") == budget
    say(server, "other", keep_alive=0)
    idle = {("other:latest", "idle"): 1.0}
    assert until(lambda: counted(server, "evictions_total") == budget | idle)
    say(server, "seed")
    server.post("/api/h2q/control", {"model": "seed", "wish": "unload"})
    found = counted(server, "evictions_total")
    assert found == budget | idle | {("seed:latest", "asked"): 1.0}
    assert counted(server, "worker_restarts_total") == {}


def test_every_start_is_counted_though_nobody_looked(server: Served) -> None:
    for _ in range(2):
        say(server, "seed", keep_alive=0)
        assert until(lambda: server.call("GET", "/api/ps")[1] == b'{"models":[]}')
    starts = counted(server, "cold_start_seconds_count")
    for phase in ("map", "first_layer", "first_token"):
        assert starts["seed:latest", phase] == 2.0


def test_a_worker_that_is_killed_and_started_again_is_counted(server: Served) -> None:
    for times in (1.0, 2.0):
        say(server, "seed")
        (state,) = [model["state"] for model in server.state()["models"] if model["state"]]
        (worker,) = [one for one in server.workers() if one.pid == state["process"]]
        worker.kill()
        assert until(lambda: server.call("GET", "/api/ps")[1] == b'{"models":[]}')
        say(server, "seed")
        assert counted(server, "worker_restarts_total") == {("seed:latest", ""): times}
    assert counted(server, "evictions_total") == {}
    assert counted(server, "cold_start_seconds_count")["seed:latest", "first_token"] == 3.0
