"""What a dashboard sees, and what its buttons do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from h2q.server.history import History
from scripted_server import Running, running

PROMPT = {"model": "scripted", "prompt": "p", "stream": False}


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def state(server: Running) -> dict[str, object]:
    import json

    status, _, data = server.call("GET", "/api/h2q/state")
    assert status == 200
    found: dict[str, object] = json.loads(data)
    return found


def test_the_state_wakes_nothing_and_counts(server: Running) -> None:
    found = state(server)
    (model,) = found["models"]  # type: ignore[misc]
    assert (model["name"], model["in_memory"], model["tokens"]) == ("scripted:latest", False, 0)
    assert server.house.kept == {}
    server.post("/api/generate", PROMPT)
    history = History()
    before = history.look(server.app)
    server.post("/api/generate", PROMPT)
    after = history.look(server.app)
    assert before.tokens_per_second > 0
    assert after.tokens_per_second > 0
    (model,) = state(server)["models"]  # type: ignore[misc]
    assert (model["in_memory"], model["tokens"], model["planes"]) == (True, 18, 2)
    assert len(model["first_token_seconds"]) == 2
    assert model["state"]["cache_capacity"] == 1 << 20
    assert after.resident == 64 << 20


def test_wishes(server: Running) -> None:
    def wish(word: str, **more: object) -> tuple[int, dict[str, object]]:
        return server.post("/api/h2q/control", {"model": "scripted", "wish": word, **more})

    assert wish("pin", planes=1)[0] == 404  # it does not run
    status, found = wish("load")
    assert (status, found["model"]) == (200, "scripted:latest")
    assert wish("pin", planes=1)[1]["state"]["planes"] == 1  # type: ignore[index]
    for word in ("refine", "drop", "forget", "status"):
        assert wish(word)[0] == 200
    assert wish("unload")[1]["unloaded"] is True
    assert wish("unload")[1]["unloaded"] is False
    assert wish("explode")[0] == 400
    assert wish("drop", planes=1)[0] == 400
    assert wish("pin", planes=0)[0] == 400
    assert server.post("/api/h2q/control", {"model": "nobody", "wish": "load"})[0] == 404


def test_the_dashboard_is_small_and_loads_nothing_from_elsewhere(server: Running) -> None:
    whole = 0
    for name in ("", "/style.css", "/main.js", "/draw.js", "/play.js"):
        status, headers, data = server.call("GET", f"/ui{name}")
        assert status == 200
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["content-type"].endswith("charset=utf-8")
        whole += len(data)
        text = data.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
    assert whole < 60 << 10
    for name in ("pages.py", "..%2fapp.py", "__init__.py", "x"):
        assert server.call("GET", f"/ui/{name}")[0] == 404


def test_updates(server: Running, tmp_path: Path) -> None:
    def update(**given: str) -> tuple[int, Any]:
        return server.post("/api/h2q/update", {"model": "scripted", **given})

    status, told = update(crystal=str(tmp_path))
    assert (status, told["model"]) == (200, "scripted:latest")
    assert told["before"] != told["after"]
    for status, words, given in (
        (400, "either", {}),
        (400, "either", {"crystal": "/a", "from": "b"}),
        (400, "absolute", {"crystal": "a"}),
        (400, "no crystal", {"crystal": str(tmp_path / "none")}),
        (404, "No installed model", {"from": "nobody"}),
        (404, "No installed model", {"model": "nobody", "crystal": "/a"}),
    ):
        found = update(**given)
        assert found[0] == status
        assert words in found[1]["error"]


def test_folders_are_for_those_at_the_machine(server: Running) -> None:
    async def ask(client: str) -> int:
        scope = {
            "type": "http", "method": "POST", "path": "/api/h2q/update", "client": (client, 1),
            "headers": [(b"host", b"localhost")], "query_string": b"",
        }  # fmt: skip
        sent = list[dict[str, Any]]()
        coming = [b'{"model": "scripted", "crystal": "/nowhere"}']

        async def receive() -> dict[str, Any]:
            if not coming:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": coming.pop(), "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await server.app(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(ask("192.0.2.7")) == 403
    assert asyncio.run(ask("")) == 403
    assert asyncio.run(ask("::ffff:127.0.0.1")) == 400
