"""`h2q serve` with the seed's crystal, and Ollama's own client."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ollama
import psutil
import pytest

from h2q.core.errors import ResourceError, UsageError
from h2q.server.address import configured, is_loopback, upstream
from served import Served, served, until

GREEDY = {"temperature": 0, "num_predict": 12}
LONG = {"num_predict": 100_000, "num_ctx": 256}
BEGINNING = "Once upon a time"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[ollama.Client]:
    found = ollama.Client(host=server.address)
    yield found
    found._client.close()


def test_a_model_answers(server: Served, client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == ["seed:latest"]
    assert client.ps().models == []
    whole = client.generate("seed", BEGINNING, raw=True, options=GREEDY)
    assert whole.eval_count == 12
    assert whole.done_reason == "length"
    assert whole.response
    pieces = list(client.generate("seed", BEGINNING, raw=True, stream=True, options=GREEDY))
    assert "".join(piece.response for piece in pieces) == whole.response
    assert len(pieces) > 6
    (running,) = client.ps().models
    assert running.model == "seed:latest"
    assert running.size
    assert len(client.embed("seed", ["one", "two"]).embeddings) == 2
    turn = [{"role": "user", "content": "Hello"}]
    assert client.chat("seed", turn, options=GREEDY).message.content is not None
    assert server.metric("generation_tokens_total") >= 24
    page = server.call("GET", "/metrics")[1].decode()
    assert 'cold_start_seconds_count{model_name="seed:latest",phase="first_layer"} 1.0' in page
    assert client.generate("seed", keep_alive=0).done_reason == "unload"
    assert until(lambda: client.ps().models == [])


def test_what_does_not_fit_is_told_as_ollama_tells_it(server: Served) -> None:
    long = "a dog " * 3000
    found = server.post("/api/embed", {"model": "seed", "input": long, "truncate": False})
    assert found == (400, {"error": "the input length exceeds the context length"})
    asked = {"model": "seed", "prompt": "x", "template": "{{ .Broken "}
    assert server.post("/api/generate", asked)[0] == 500
    cut = {"prompt": long, "shift": False, "options": {"temperature": 0}, "stream": False}
    status, answer = server.post("/api/generate", {"model": "seed", "raw": True, **cut})
    assert status == 200
    assert answer["eval_count"] > 1  # the cut leaves room


def test_leaving_stops_the_model(server: Served, client: ollama.Client) -> None:
    stream = client.generate("seed", BEGINNING, raw=True, stream=True, options=LONG)
    other = client.generate("seed", BEGINNING, raw=True, stream=True, options=GREEDY)
    assert next(iter(stream)).response is not None
    stream.close()  # type: ignore[attr-defined]
    assert len(list(other)) > 6
    assert until(lambda: server.metric("num_requests_running") == 0)
    status, data = server.call("GET", "/metrics")
    assert status == 200
    assert b'request_success_total{finished_reason="abort",model_name="seed:latest"}' in data


def test_a_killed_worker_is_told_of_and_replaced(server: Served, client: ollama.Client) -> None:
    stream = client.generate("seed", BEGINNING, raw=True, stream=True, options=LONG)
    next(iter(stream))
    for child in server.workers():
        child.kill()
    with pytest.raises(ollama.ResponseError, match="process is gone"):
        list(stream)
    again = client.generate("seed", BEGINNING, raw=True, options=GREEDY)
    assert again.eval_count == 12


def test_it_drains_at_sigterm(tmp_path: Path, seed_path: Path) -> None:
    with served(tmp_path / "home", seed=seed_path) as server:
        body = {"model": "seed", "prompt": BEGINNING, "raw": True, "options": {"num_predict": 300}}
        data = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + data)
            answer = connection.recv(1 << 16)
            assert b"200 OK" in answer
            children = server.workers()
            server.process.send_signal(signal.SIGTERM)
            while piece := connection.recv(1 << 16):
                answer += piece
        assert b'"done":true' in answer
        assert server.process.wait(60) == 0
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []
        assert server.log().count('"event":"ended"') == 1


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    with served(tmp_path / "home", keys="k-one,k-two") as server:
        assert server.call("GET", "/api/tags")[0] == 401
        key = {"Authorization": "Bearer k-two"}
        assert server.call("GET", "/api/tags", headers=key) == (200, b'{"models":[]}')
        assert server.call("GET", "/health/ready")[0] == 200
        assert "k-two" not in server.log()


def test_a_taken_port_is_told_of(server: Served) -> None:
    command = [sys.executable, "-m", "h2q", "serve", "--port", str(server.port), "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == ResourceError.exit_code
    error = json.loads(told.stdout)["error"]
    assert f"--port {server.port + 1} --ollama http://127.0.0.1:{server.port}" in error["fix"]


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert configured(None, None) == ("127.0.0.1", 11434)
    for text, found in (
        ("0.0.0.0", ("0.0.0.0", 11434)),
        (":5000", ("127.0.0.1", 5000)),
        ("https://box/path", ("box", 443)),
        ("[::1]:7", ("::1", 7)),
        ("box:99999", ("box", 11434)),
        ("box:port", ("box", 11434)),
    ):
        monkeypatch.setenv("OLLAMA_HOST", text)
        assert configured(None, None) == found
    assert configured("127.0.0.1", 0) == ("127.0.0.1", 0)
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert upstream("127.0.0.1:11434/") == "http://127.0.0.1:11434"
    for text in ("http://a@b", "file:///etc", "http://x/y", ""):
        with pytest.raises(UsageError):
            upstream(text)
