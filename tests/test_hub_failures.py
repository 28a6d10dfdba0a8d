"""What a person is told when a download from the hub cannot be, and what is kept."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from checkpoints import WEIGHTS
from h2q.core.errors import AccessError, NetworkError, ResourceError, SourceError
from h2q.core.events import Progress
from h2q.sources import hub_transfer
from h2q.sources.hub import fetch
from h2q.sources.hub_listing import RemoteFile
from h2q.sources.hub_wire import Hub
from hub_server import COMMIT, REPO, HubServer

PAUSES = hub_transfer.PAUSES  # before a test makes them short


@pytest.mark.parametrize(
    ("status", "headers", "kind", "words"),
    [
        (401, {}, AccessError, "HF_TOKEN"),
        (401, {"X-Error-Code": "RepoNotFound"}, AccessError, "does not exist, or is private"),
        (403, {"X-Error-Code": "GatedRepo"}, AccessError, "gated"),
        (403, {}, AccessError, "private"),
        (404, {"X-Error-Code": "RepoNotFound"}, SourceError, "no such model"),
        (404, {"X-Error-Code": "RevisionNotFound"}, SourceError, "no such revision"),
        (503, {}, NetworkError, "busy or broken"),
        (418, {}, NetworkError, "status 418"),
    ],
)
def test_a_refusal_has_a_sentence(
    server: HubServer,
    hub: Hub,
    status: int,
    headers: dict[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    server.status["api"] = [(status, headers)]
    with pytest.raises(kind, match=words) as told:
        fetch(REPO, hub=hub)
    assert type(told.value) in (kind, *kind.__subclasses__())
    assert not list(hub.cache.rglob("*"))


def test_a_file_that_may_not_be_read(server: HubServer, hub: Hub) -> None:
    server.status[WEIGHTS] = [(403, {"X-Error-Code": "GatedRepo"})]
    with pytest.raises(AccessError, match="gated"):
        fetch(REPO, hub=hub)


def test_a_hub_that_never_answers(hub: Hub) -> None:
    """It takes the connection and stays silent: at its listing, at its files, and behind names."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        nowhere = Hub(address, hub.cache, reach_seconds=0.2, patience_seconds=0.5)
        began = time.monotonic()
        with pytest.raises(NetworkError, match=r"no answer in 0.2 s.*Check the connection"):
            fetch(REPO, hub=nowhere)
        assert time.monotonic() - began < 30  # a bound on hangs
    assert not list(hub.cache.rglob("*"))


def test_files_that_never_come_are_given_up(server: HubServer, hub: Hub) -> None:
    server.hang["config.json"] = [0] * 100
    short = replace(hub, reach_seconds=0.2, patience_seconds=0.5)
    with pytest.raises(NetworkError, match="cannot be reached"):
        fetch(REPO, hub=short)
    tries = sum(seen.file == "config.json" for seen in server.seen)
    assert 1 < tries < 6  # not the six that a hub gets which has sent something


def test_a_port_where_nobody_listens_is_given_up(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's own address may be dead though the hub is not."""
    waits = list[float]()
    monkeypatch.setattr(hub_transfer, "PAUSES", PAUSES)
    monkeypatch.setattr(hub_transfer.time, "sleep", waits.append)
    file = RemoteFile("config.json", 10, "0" * 40)
    dead = replace(hub, endpoint="http://127.0.0.1:9", patience_seconds=4.0)
    with pytest.raises(NetworkError, match="cannot be reached"):
        hub_transfer.complete(dead, "http://127.0.0.1:9/x", file, tmp_path / "x", lambda _: None)
    assert waits == [1.0, 2.0]


def test_a_default_hub_is_given_up_within_half_a_minute() -> None:
    hub = Hub("http://127.0.0.1:9", Path())
    waited = attempts = 0.0
    while attempts == 0 or waited + PAUSES[int(attempts) - 1] <= hub.patience_seconds:
        waited += (PAUSES[int(attempts) - 1] if attempts else 0) + hub.reach_seconds
        attempts += 1
    assert waited < 30


def test_without_a_connection(server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Hub("http://127.0.0.1:9", hub.cache)
    with pytest.raises(NetworkError, match=r"cannot be reached.*cache holds no whole copy"):
        fetch(REPO, hub=nowhere)
    folder = fetch(REPO, hub=hub)
    heard: list[Progress] = []
    assert fetch(REPO, heard.append, nowhere) == folder
    assert "cache" in heard[0].stage
    assert fetch(f"{REPO}@{COMMIT}", hub=nowhere) == folder
    with pytest.raises(NetworkError):
        fetch(f"{REPO}@v2", hub=nowhere)
    asked = len(server.seen)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPO, hub=hub) == folder
    assert len(server.seen) == asked
    (folder / WEIGHTS).unlink()
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        fetch(REPO, hub=hub)


def test_a_model_that_cannot_run_costs_no_weights(server: HubServer, hub: Hub) -> None:
    config = {**json.loads(server.files["config.json"]), "model_type": "mamba"}
    server.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(SourceError, match="mamba"):
        fetch(REPO, hub=hub)
    assert server.asked(WEIGHTS) == []


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        (WEIGHTS, "never read here"),
    ],
)
def test_a_repository_without_what_is_needed(
    server: HubServer, hub: Hub, gone: str, words: str
) -> None:
    del server.files[gone]
    with pytest.raises(SourceError, match=words):
        fetch(REPO, hub=hub)
    assert [seen.file for seen in server.seen] == [""]


def test_a_disk_too_small_is_known_before(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("h2q.sources.hub.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"take .* MiB, the disk has 1\.0 MiB"):
        fetch(REPO, hub=hub)
    assert server.asked(WEIGHTS) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up(server: HubServer, hub: Hub) -> None:
    blobs = hub.cache / "models--tester--seed" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{server.digest(WEIGHTS)}.h2q.incomplete").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"disk is full.*HF_HUB_CACHE"):
        fetch(REPO, hub=hub)
