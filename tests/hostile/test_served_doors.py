"""Classes 11, 12 and 15 at a real server's door: who asks, and whom it could be made to ask."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from at_the_door import raw, told, unharmed

from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.orchestrator.works import Access
from h2q.runtime.worker import Worker
from h2q.server.app import DIALECTS
from h2q.server.dialect import load
from h2q.server.health import House
from scripted_server import running
from served import Served, served

TAGS = "/api/tags"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("doors") / "home", seed=seed_path) as found:
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("locked") / "home", keys="right-key") as found:
        yield found


@pytest.fixture(autouse=True)
def _afterwards(server: Served) -> Iterator[None]:
    yield
    unharmed(server)


@pytest.fixture
def nobody() -> Iterator[socket.socket]:
    """A socket that nobody should connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.0)
        yield listener


def visited(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def no_worker() -> Worker:
    raise AssertionError("nothing is to be loaded")


def test_it_asks_no_private_address(nobody: socket.socket, tmp_path: Path) -> None:
    port = nobody.getsockname()[1]
    house = ResourceOrchestrator(no_worker, root=tmp_path / "home", access=Access(nice=0))
    with running(house=house) as server:  # type: ignore[arg-type]
        for name in (
            f"127.0.0.1:{port}/library/x", f"http://localhost:{port}/library/x",
            f"http://user:secret@127.0.0.1:{port}/library/x", "169.254.169.254/latest/meta-data",
            "hf:../../etc/passwd", "file:///etc/passwd", "/etc/passwd", "ollama:../../x",
        ):  # fmt: skip
            body = {"model": name, "insecure": True, "stream": False}
            status, found = server.post("/api/pull", body)
            assert status in (400, 403, 404), (name, found)
            assert "secret" not in json.dumps(found)
        for name in ("/etc/passwd", "ollama:../../x"):
            body = {"model": "made", "from": name, "stream": False}
            assert server.post("/api/create", body)[0] in (400, 403, 404), name
    assert not visited(nobody)


def test_only_names_of_this_machine_are_hosts(server: Served) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "8.8.8.8",
                 "evil.example:80", "localhost@evil.example", "[2606:4700::1]", "127.0.0.1 evil",
                 "evil.example#localhost", "\u006c\u006fcalhost.evil"):  # fmt: skip
        answer = raw(server, f"GET {TAGS} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"403", b"400"), host
        assert b"seed" not in answer
    two = f"GET {TAGS} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    other = f"GET {TAGS} HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n"
    absolute = f"GET http://evil.example{TAGS} HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    assert b"seed" not in raw(server, other.encode())
    assert b"seed" not in raw(server, absolute.encode())
    assert b"seed" not in raw(server, two.encode())


def test_pages_of_others_do_nothing(server: Served) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example",
                   "http://[::2]", "http://localhost:80@evil.example",
                   "https://localhost.evil.example"):  # fmt: skip
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        for path in ("/api/generate", "/api/delete", "/api/h2q/control", "/v1/chat/completions"):
            status, data = told(server, path, {"model": "seed"}, headers=headers)
            assert status == 403, (origin, path, data)
        assert server.call("OPTIONS", "/api/chat", headers=headers)[0] == 403
    assert server.call("GET", TAGS, headers={"Origin": "http://localhost:3000"})[0] == 200


def test_without_a_key_nothing_is_told(locked: Served) -> None:
    routes = [route for dialect in (House(), *(load(place)() for place in DIALECTS))
              for route in dialect.routes() if not route.open]  # fmt: skip
    assert len(routes) > 25
    for route in routes:
        path = route.path.replace("{digest}", "sha256:" + "0" * 64)
        path = path.replace("{model:path}", "seed").replace("{asset}", "main.js")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right-key"},
                        {"X-Api-Key": "right-ke"}, {"X-Api-Key": "right-key\t2"},
                        {"Authorization": "Bearer "}, {"Cookie": "key=right-key"}):  # fmt: skip
            status, data = told(locked, path, b"{}", route.method, headers)
            assert status == 401, (route, headers, data)
    assert told(locked, TAGS + "?key=right-key", method="GET")[0] == 401
    assert told(locked, TAGS, method="GET", headers={"X-Api-Key": "right-key"})[0] == 200
    assert "right-key" not in locked.log()


def test_nothing_is_behind_other_paths(server: Served) -> None:
    for path in ("/debug/pprof/", "/debug/vars", "/debug", "/.env", "/.git/config",
                 "/server-status", "/api/../metrics", "/api/%2e%2e/%2e%2e/etc/passwd",
                 "/ui/../../etc/passwd",
                 "/ui/%2e%2e/%2e%2e/settings.py", "/ui//etc/passwd", "//etc/passwd", "/api/tags/",
                 "/API/TAGS", "/api/tags;x", "/docs/..", "/api/blobs/", "/admin",
                 "/" + "a" * 5000):  # fmt: skip
        status, data = told(server, path, method="GET")
        assert status in (404, 405, 400), (path, data)
        assert b"root:" not in data
    for method in ("TRACE", "CONNECT", "PROPFIND", "DEBUG", "PUT", "PATCH"):
        assert raw(server, f"{method} {TAGS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).split(
            b" "
        )[1] in (b"405", b"404", b"400", b"501")
