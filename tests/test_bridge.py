"""The bridge: models of another server are there too, until they are crystals of ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import ollama
import pytest

from h2q.core.errors import QualityError, UsageError
from h2q.orchestrator.house import Recipe, WorkEvent
from h2q.server.bridge import OllamaBridge
from h2q.server.limits import ServerSettings
from other_ollama import EVENTS, LINES, Other, other_ollama
from scripted_server import Running, running


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    with other_ollama() as found:
        yield found


@pytest.fixture(scope="module")
def server(other: Other) -> Iterator[Running]:
    keys = ServerSettings(keys=("k",))
    with running(settings=keys, ollama=other.address, silent_seconds=0.3) as found:
        yield found


KEY = {"Authorization": "Bearer k", "Content-Type": "text/plain", "Cookie": "c"}


def ask(server: Running, body: object, path: str = "/api/generate") -> tuple[int, bytes]:
    status, _, data = server.call("POST", path, body, KEY)
    return status, data


def test_both_lists_are_one(server: Running, other: Other) -> None:
    models = json.loads(server.call("GET", "/api/tags", headers=KEY)[2])["models"]
    assert [model["name"] for model in models] == ["scripted:latest", "theirs:latest"]
    assert "remote_host" not in models[0]
    assert models[1]["remote_host"] == other.address
    data = json.loads(server.call("GET", "/v1/models", headers=KEY)[2])["data"]
    assert [model["id"] for model in data] == ["scripted:latest", "theirs:latest"]


def test_a_request_goes_and_comes_unchanged(server: Running, other: Other) -> None:
    body = b'{"model": "theirs",  "prompt":"caf\\u00e9", "odd": [1, 2.50]}'
    assert ask(server, body) == (200, b"".join(LINES))
    path, headers, data = other.asked[-1]
    assert (path, data) == ("/api/generate", body)
    assert headers["content-type"] == "text/plain"
    assert not {"authorization", "cookie"} & set(headers)
    status, whole = ask(server, {"model": "theirs", "prompt": "x", "stream": False})
    assert (status, json.loads(whole)["response"]) == (200, "whole & <good>")
    turn = {"model": "theirs", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    assert ask(server, turn, "/v1/chat/completions?a=b") == (200, b"".join(EVENTS))
    assert other.asked[-1][0] == "/v1/chat/completions?a=b"
    assert ask(server, {"model": "nobody"}) == (404, b'{"error": "model \'nobody\' not found"}')
    assert server.house.worker.asks == []


def test_ours_come_first_and_theirs_are_not_changed(server: Running, other: Other) -> None:
    before = len(other.asked)
    assert ask(server, {"model": "scripted", "prompt": "x"})[0] == 200
    for path, method in (("/api/delete", "DELETE"), ("/api/copy", "POST"), ("/api/push", "POST")):
        body = {"model": "theirs", "source": "theirs", "destination": "mine"}
        assert server.call(method, path, body, KEY)[0] == 404
    assert len(other.asked) == before


def test_what_goes_wrong_there_is_told(server: Running, other: Other) -> None:
    for name, status, words in (
        ("silent", 504, "does not answer"),
        ("short", 502, "broke off its answer"),
        ("moves", 502, "sends us elsewhere"),
    ):
        found, data = ask(server, {"model": name, "prompt": "x", "stream": False})
        assert found == status
        assert words in json.loads(data)["error"]
    for name, words in (("breaks", "broke off"), ("stalls", "does not answer")):
        found, data = ask(server, {"model": name, "prompt": "x"})
        lines = data.splitlines(keepends=True)
        assert (found, lines[0]) == (200, LINES[0])
        assert words in json.loads(lines[-1])["error"]
    turn = {"model": "breaks", "messages": [{"role": "user", "content": "x"}], "stream": True}
    found, data = ask(server, turn, "/v1/chat/completions")
    assert (found, data[: len(EVENTS[0])]) == (200, EVENTS[0])
    event = data.decode().split("\n\n")[-2]
    assert "broke off" in json.loads(event.removeprefix("data: "))["error"]["message"]


def test_a_server_that_is_down(other: Other) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with running(ollama=address) as server:
            assert len(json.loads(server.call("GET", "/api/tags")[2])["models"]) == 1
            status, found = server.post("/api/chat", {"model": "theirs", "messages": []})
            assert status == 502
            assert "cannot be reached" in found["error"]
            assert server.post("/api/generate", {"model": "scripted", "stream": False})[0] == 200


def test_leaving_is_passed_on(other: Other) -> None:
    with running(ollama=other.address) as server:
        body = json.dumps({"model": "endless"}).encode()
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            head = f"POST /api/generate HTTP/1.1\r\nHost: a.local\r\nContent-Length: {len(body)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            assert b"200 OK" in connection.recv(1000)
            left = other.left
        assert server.until(lambda: other.left == left + 1)
        assert server.until(lambda: server.app.gate.running == 0)


def test_two_servers_that_name_each_other() -> None:
    with running() as first, running(ollama=first.address) as second:
        first.app.bridge = OllamaBridge(second.address)
        status, found = second.post("/api/generate", {"model": "nobody", "prompt": "x"})
        assert (status, found["error"]) == (404, "model 'nobody' not found")
        assert len(json.loads(second.call("GET", "/api/tags")[2])["models"]) == 1
        text = ollama.Client(host=second.address)
        assert text.generate("scripted", "x").response
        text._client.close()


def test_a_model_is_grown_and_takes_over(other: Other) -> None:
    with running(ollama=other.address, crystallize=True) as server:
        body = {"model": "theirs", "prompt": "x"}
        assert server.lines("/api/generate", body)[0]["response"] == "a<b"
        assert server.until(lambda: "theirs:latest" in server.house.cards)
        assert server.house.recipes == [("theirs", Recipe(base="ollama:theirs"))]
        assert server.lines("/api/generate", body)[0]["response"] == "Once"
        models = json.loads(server.call("GET", "/api/tags")[2])["models"]
        assert len(models) == 2
        assert all("remote_host" not in model for model in models)


def test_a_crystal_that_is_not_good_enough_does_not(other: Other) -> None:
    with running(ollama=other.address, crystallize=True) as server:
        tries = list[str]()

        async def fails(name: str, recipe: Recipe) -> object:
            tries.append(name)
            yield WorkEvent("growing", total=2, done=1)
            raise QualityError("The quality cannot be held.")

        server.house.create = fails  # type: ignore[method-assign, assignment]
        bridge = server.app.bridge
        assert bridge is not None
        for _ in range(3):
            assert server.lines("/api/generate", {"model": "theirs", "prompt": "x"})
            assert server.until(lambda: bridge.growths["theirs"].error)
        assert tries == ["theirs"]
        assert "not crystallized" in server.log.getvalue()


def test_addresses_that_are_none() -> None:
    for text in ("ftp://x", "http://user@x", "http://x/path", "http://"):
        with pytest.raises(UsageError):
            OllamaBridge(text)
