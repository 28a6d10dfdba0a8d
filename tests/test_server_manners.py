"""Who may come in, how much at once, and what happens when somebody leaves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from h2q.bench.scripted import Script
from h2q.server.limits import Limits, ServerSettings
from scripted_server import Running, running

PROMPT = {"model": "scripted", "prompt": "p"}
ENDLESS = Script(tokens=1_000_000, pause=0.002)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def opened(server: Running, path: str = "/api/generate", body: object = PROMPT) -> socket.socket:
    """A connection on which a request was sent."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def test_a_foreign_host_name_is_turned_away(server: Running) -> None:
    for host in ("evil.example", "evil.example:11434", "127.0.0.1.evil.example", "8.8.8.8"):
        assert server.call("GET", "/api/tags", host=host)[::2] == (403, b"")
    for host in ("localhost", "localhost:1", "127.0.0.1:5", "[::1]:80", "a.localhost", "10.0.0.7",
                 "box.local", "x.internal", "0.0.0.0"):  # fmt: skip
        assert server.call("GET", "/api/tags", host=host)[0] == 200, host


def test_origins(server: Running) -> None:
    for origin in ("http://localhost:3000", "https://127.0.0.1", "app://obsidian.md",
                   "vscode-webview://x"):  # fmt: skip
        status, headers, _ = server.call("GET", "/api/tags", headers={"Origin": origin})
        assert (status, headers["access-control-allow-origin"]) == (200, origin)
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        status, headers, _ = server.call(
            "POST", "/api/generate", PROMPT, {"Origin": origin, "Content-Type": "text/plain"}
        )
        assert status == 403
        assert "access-control-allow-origin" not in headers
    status, headers, _ = server.call("OPTIONS", "/api/chat", headers={"Origin": "http://localhost"})
    assert status == 204
    assert "authorization" in headers["access-control-allow-headers"].lower()


def test_more_origins() -> None:
    with running(settings=ServerSettings(origins=("https://*.example.org",))) as server:
        for origin, status in (("https://a.example.org", 200), ("https://example.com", 403)):
            assert server.call("GET", "/api/tags", headers={"Origin": origin})[0] == status


def test_keys() -> None:
    with running(settings=ServerSettings(keys=("k-first", "k-second"))) as server:
        for path in ("/api/tags", "/metrics", "/docs", "/openapi.json"):
            assert server.call("GET", path)[0] == 401
            assert server.call("GET", path, headers={"Authorization": "Bearer no"})[0] == 401
        status, _, data = server.call("POST", "/api/generate", PROMPT)
        assert (status, json.loads(data)) == (401, {"error": "an API key is needed"})
        for headers in ({"Authorization": "Bearer k-second"}, {"X-Api-Key": "k-first"}):
            assert server.call("GET", "/api/tags", headers=headers)[0] == 200
        for path in ("/", "/health/live", "/health/ready"):
            assert server.call("GET", path)[0] == 200
        assert "k-second" not in server.log.getvalue()
        assert '"client":"key 2"' in server.log.getvalue()


def test_leaving_stops_the_model() -> None:
    with running(ENDLESS) as server:
        connection = opened(server)
        assert connection.recv(100)
        connection.close()
        worker = server.house.worker
        assert server.until(lambda: worker.closed == 1)
        made = worker.made
        time.sleep(0.05)
        assert worker.made == made
        assert server.house.leases == 0
        assert server.until(lambda: '"status":200' in server.log.getvalue())
        assert server.app.metrics.of("scripted:latest").finished == {"abort": 1}
        assert (server.app.gate.waiting, server.app.gate.running) == (0, 0)


def test_one_leaves_and_another_goes_on() -> None:
    with running(Script(tokens=200, pause=0.001)) as server:
        leaving = opened(server)
        found = list[int]()
        other = threading.Thread(
            target=lambda: found.append(len(server.lines("/api/generate", PROMPT)))
        )
        other.start()
        assert leaving.recv(10)
        leaving.close()
        other.join(30)
        assert found == [201]


def test_leaving_before_the_model_is_there() -> None:
    with running(Script(load_seconds=60)) as server:
        connection = opened(server)
        assert server.until(lambda: server.app.gate.waiting == 1)
        connection.close()
        assert server.until(lambda: server.app.gate.waiting == 0)
        assert server.house.worker.asks == []


def test_the_queue_is_bounded() -> None:
    settings = ServerSettings(limits=Limits(queue=2))
    with running(Script(load_seconds=60), settings) as server:
        waiting = [opened(server) for _ in range(2)]
        assert server.until(lambda: server.app.gate.waiting == 2)
        status, headers, data = server.call("POST", "/api/generate", PROMPT)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        words = json.loads(data)["error"]
        assert words.startswith("server busy, please try again.  maximum pending requests exceeded")
        assert "2 of 2" in words
        assert server.app.metrics.of("scripted:latest").refused == 1
        assert server.call("GET", "/health/ready")[0] == 200
        for connection in waiting:
            connection.close()


def test_one_client_has_its_share() -> None:
    settings = ServerSettings(limits=Limits(per_client=1))
    with running(ENDLESS, settings) as server:
        connection = opened(server)
        assert connection.recv(10)
        status, headers, _ = server.call("POST", "/api/generate", PROMPT)
        assert (status, headers["retry-after"]) == (429, "1")
        connection.close()


def test_slow_heads_and_bodies_are_cut() -> None:
    limits = Limits(header_seconds=0.2, body_seconds=0.2)
    with running(settings=ServerSettings(limits=limits)) as server:
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        assert silent.recv(100).startswith(b"HTTP/1.1 408")
        slow = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        body = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        body.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        assert body.recv(100).startswith(b"HTTP/1.1 408")
        for connection in (silent, slow, body):
            connection.close()
        assert server.call("GET", "/")[0] == 200


def test_a_kept_connection_may_rest_and_go_on() -> None:
    import http.client

    with running(settings=ServerSettings(limits=Limits(header_seconds=0.2))) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for _ in range(2):
            connection.request("POST", "/api/generate", json.dumps(PROMPT))
            assert connection.getresponse().read()
            time.sleep(0.4)
        connection.close()


def test_large_and_packed_bodies() -> None:
    with running(settings=ServerSettings(limits=Limits(body=1000))) as server:
        status, headers, data = server.call("POST", "/api/chat", b" " * 1001)
        assert (status, headers["connection"]) == (413, "close")
        assert "1000 bytes" in json.loads(data)["error"]
        sent = {"Content-Encoding": "gzip"}
        assert server.call("POST", "/api/chat", b"x", sent)[0] == 415
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(
                b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512 + b"\r\n"
            )  # fmt: skip
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_head_without_end_is_cut(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        try:
            for _ in range(64):
                connection.sendall(b"X-Long: " + b"x" * 65536 + b"\r\n")
            answer = connection.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"cut"
        assert answer in (b"", b"cut") or answer.startswith(b"HTTP/1.1 4")
    assert server.call("GET", "/")[0] == 200


def test_a_client_that_does_not_read_is_let_go() -> None:
    limits = Limits(write_seconds=0.2)
    script = Script(words=("x" * 100_000,), tokens=1_000_000)
    with running(script, ServerSettings(limits=limits)) as server:
        connection = opened(server)
        assert server.until(lambda: server.house.worker.closed == 1, 30)
        connection.close()


def test_draining_ends_answers_and_takes_no_new_ones() -> None:
    with running(Script(tokens=150, pause=0.005)) as server:
        connection = opened(server)
        first = connection.recv(200)
        assert b"200 OK" in first
        loop = server.serving.servers[0].get_loop()
        loop.call_soon_threadsafe(server.serving.end)
        assert server.until(lambda: server.app.gate.draining)
        assert server.call("GET", "/health/ready")[0] == 503
        assert server.call("GET", "/health/live")[0] == 200
        status, headers, _ = server.call("POST", "/api/generate", PROMPT)
        assert status == 503
        assert "retry-after" in headers
        rest = b""
        while piece := connection.recv(65536):
            rest += piece
        assert b'"done":true' in rest
        connection.close()
        assert server.until(lambda: server.serving.should_exit)


def test_logs_hold_ids_and_no_texts(server: Running) -> None:
    _, headers, _ = server.call("POST", "/api/generate", {**PROMPT, "prompt": "my secret"})
    mark = headers["x-request-id"]
    assert server.until(lambda: mark in server.log.getvalue())
    lines = [json.loads(line) for line in server.log.getvalue().splitlines()]
    line = next(line for line in lines if line.get("id") == mark)
    assert line["path"] == "/api/generate"
    assert line["model"] == "scripted:latest"
    assert "secret" not in server.log.getvalue()


def test_unforeseen_errors_say_nothing_of_the_inside(server: Running) -> None:
    class BrokenError(Exception):
        pass

    def broken() -> None:
        raise BrokenError("/home/somebody/secret")

    server.house.models, kept = broken, server.house.models  # type: ignore[assignment]
    status, headers, data = server.call("GET", "/api/tags")
    server.house.models = kept  # type: ignore[method-assign]
    assert status == 500
    assert b"secret" not in data
    assert b"BrokenError" not in data
    assert server.until(lambda: "BrokenError" in server.log.getvalue())
    assert headers["x-request-id"] in server.log.getvalue()


def test_metrics_under_their_names(server: Running) -> None:
    server.lines("/api/generate", PROMPT)
    status, _, data = server.call("GET", "/metrics")
    page = data.decode()
    assert status == 200
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 "tier_planes_resident", "tier_planes_total", "memory_budget_bytes",
                 "pressure_level", "prompt_tokens_total", "generation_tokens_total",
                 "prefix_cache_hits_total", "time_to_first_token_seconds_bucket",
                 "inter_token_latency_seconds_bucket", "e2e_request_latency_seconds_bucket",
                 "request_queue_time_seconds_bucket"):  # fmt: skip
        assert f"{name}{{" in page, name
    assert 'bytes_resident{kind="kv",model_name="scripted:latest"}' in page
    assert 'request_success_total{finished_reason="stop",model_name="scripted:latest"}' in page
    assert 'time_to_first_token_seconds_bucket{le="0.04",model_name="scripted:latest"}' in page
    for name in ("evictions", "swap", "worker_restarts", "guard_verdicts", "budget_rejections"):
        assert f"# TYPE {name}_total counter" in page


def test_looking_wakes_nothing(server: Running) -> None:
    server.house.kept.clear()
    for path in ("/metrics", "/api/ps", "/api/tags", "/health/ready", "/health/live"):
        assert server.call("GET", path)[0] == 200
    assert server.house.kept == {}
    assert server.house.leases == 0


def test_the_interface_describes_itself(server: Running) -> None:
    document = json.loads(server.call("GET", "/openapi.json")[2])
    body = document["paths"]["/api/chat"]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rpartition("/")[2]
    assert "messages" in document["components"]["schemas"][name]["properties"]
    page = server.call("GET", "/docs")[2].decode()
    for dialect in server.app.dialects:
        for route in dialect.routes():
            assert route.path.replace(":path", "") in document["paths"]
            assert route.path.replace(":path", "") in page
