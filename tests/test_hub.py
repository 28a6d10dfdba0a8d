"""`hf:org/name` against a server on the loopback that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from checkpoints import WEIGHTS, read_stored, write_stored
from h2q.core.architecture import tensors
from h2q.core.errors import (
    AccessError,
    Cancelled,
    NetworkError,
    ResourceError,
    SourceError,
)
from h2q.core.events import Progress
from h2q.sources import Source, hub_transfer
from h2q.sources.hf_dir import HFDirectory
from h2q.sources.hub import fetch
from h2q.sources.hub_wire import Hub
from hub_server import COMMIT, REPO, HubServer, serving

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed"
INDEX = "model.safetensors.index.json"
OTHERS = {"pytorch_model.bin": b"\x80\x04", "modeling.py": b"import os", "original/w.pth": b"x"}
TOKEN = "hf_of_a_tester"


def seed_files() -> dict[str, bytes]:
    names = ("config.json", "tokenizer.json", WEIGHTS)
    return {name: (SEED / name).read_bytes() for name in names}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub_transfer, "PAUSES", (0.0,) * 3)
    yield
    huggingface_hub.close_session()


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving(HubServer({**seed_files(), **OTHERS})) as running:
        yield running


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(server.address, tmp_path / "cache")


def test_a_whole_download(server: HubServer, hub: Hub, seed_source: Source) -> None:
    heard: list[Progress] = []
    source = HFDirectory(fetch(REPO, heard.append, hub))
    for tensor in tensors(seed_source.spec):
        assert np.array_equal(source.tensor(tensor.name), seed_source.tensor(tensor.name))
    assert {seen.file for seen in server.seen} == {"", *seed_files()}
    size = len(seed_files()[WEIGHTS])
    weights = [event for event in heard if event.stage == "fetch the weights"]
    assert {(event.total, event.unit) for event in weights} == {(size, "bytes")}
    assert [event.done for event in weights] == sorted(event.done for event in weights)
    assert weights[-1].done == size
    assert len(weights) > 10
    files = [event for event in heard if event.stage.endswith("files")]
    assert (files[-1].done, files[-1].total) == (1, 1)


def test_what_is_there_is_not_fetched_again(server: HubServer, hub: Hub) -> None:
    first = fetch(REPO, hub=hub)
    asked = len(server.seen)
    assert fetch(REPO, hub=hub) == first
    assert [seen.file for seen in server.seen[asked:]] == [""]


def test_the_cache_is_the_one_of_the_library(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    """Its own download makes the same tree, it finds our files, and we find its files."""
    ours = fetch(REPO, hub=hub)
    for name in seed_files():
        found = huggingface_hub.hf_hub_download(
            REPO, name, cache_dir=hub.cache, local_files_only=True
        )
        assert Path(found) == ours / name
        theirs = huggingface_hub.hf_hub_download(
            REPO, name, cache_dir=tmp_path / "theirs", endpoint=server.address, token=False
        )
        assert Path(theirs).read_bytes() == (ours / name).read_bytes()
        assert Path(theirs).relative_to(tmp_path / "theirs") == (ours / name).relative_to(hub.cache)
        assert os.readlink(theirs) == os.readlink(ours / name)
    asked = len(server.seen)
    fetch(REPO, hub=Hub(server.address, tmp_path / "theirs"))
    assert [seen.file for seen in server.seen[asked:]] == [""]


def test_shards_are_those_of_the_index(server: HubServer, hub: Hub, seed_source: Source) -> None:
    stored = read_stored(SEED / WEIGHTS)
    names = list(stored)
    shards = {f"model-{part}-of-2.safetensors": names[part - 1 :: 2] for part in (1, 2)}
    for shard, parts in shards.items():
        path = hub.cache.parent / shard
        write_stored(path, {name: stored[name] for name in parts})
        server.files[shard] = path.read_bytes()
    table = {name: shard for shard, parts in shards.items() for name in parts}
    server.files[INDEX] = json.dumps({"weight_map": table}).encode()
    server.files["consolidated.safetensors"] = server.files.pop(WEIGHTS)
    source = HFDirectory(fetch(REPO, hub=hub))
    assert np.array_equal(source.tensor(names[0]), seed_source.tensor(names[0]))
    assert {seen.file for seen in server.seen if "safetensors" in seen.file} == {INDEX, *shards}


def test_a_connection_that_breaks_is_continued(server: HubServer, hub: Hub) -> None:
    server.drop[WEIGHTS] = [100_000, 0, 50_000]
    folder = fetch(REPO, hub=hub)
    ranges = [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert server.asked(WEIGHTS) == ranges
    assert (folder / WEIGHTS).read_bytes() == server.files[WEIGHTS]


def test_a_server_that_stays_broken(server: HubServer, hub: Hub) -> None:
    server.drop[WEIGHTS] = [1_000, *[0] * 50]
    with pytest.raises(NetworkError, match="breaks off"):
        fetch(REPO, hub=hub)
    assert len(server.asked(WEIGHTS)) == 2 + len(hub_transfer.PAUSES)
    server.drop.clear()
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(WEIGHTS)[-1] == "bytes=1000-"


def test_a_person_who_stops_can_go_on(server: HubServer, hub: Hub) -> None:
    def stop(event: Progress) -> None:
        if event.stage == "fetch the weights" and event.done > 300_000:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        fetch(REPO, stop, hub)
    (partial,) = hub.cache.rglob("*.incomplete")
    kept = partial.stat().st_size
    assert kept > 300_000
    assert server.files[WEIGHTS].startswith(partial.read_bytes())
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(WEIGHTS) == [None, f"bytes={kept}-"]
    assert not list(hub.cache.rglob("*.incomplete"))


def test_a_server_without_ranges_begins_anew(server: HubServer, hub: Hub) -> None:
    server.ranges = False
    server.drop[WEIGHTS] = [70_000]
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(WEIGHTS) == [None, "bytes=70000-"]


def test_a_busy_server_is_asked_again(server: HubServer, hub: Hub) -> None:
    server.status[WEIGHTS] = [(503, {}), (429, {})]
    fetch(REPO, hub=hub)
    assert len(server.asked(WEIGHTS)) == 3


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


def test_the_token_is_shown_to_the_hub(server: HubServer, hub: Hub) -> None:
    server.token = TOKEN
    with pytest.raises(AccessError):
        fetch(REPO, hub=hub)
    permitted = Hub(server.address, hub.cache, authorization=f"Bearer {TOKEN}")
    assert TOKEN not in repr(permitted)
    fetch(REPO, hub=permitted)


def test_the_token_is_shown_to_nobody_else(server: HubServer, hub: Hub) -> None:
    """Weights lie on another host, which sees the range and no token."""
    server.token = TOKEN
    server.redirect = {"config.json": "/elsewhere/config.json2"}
    server.files["config.json2"] = server.files["config.json"]
    with serving(HubServer(dict(server.files))) as store:
        server.redirect[WEIGHTS] = f"{store.address}/signed/{WEIGHTS}"
        store.drop[WEIGHTS] = [40_000]
        permitted = Hub(server.address, hub.cache, authorization=f"Bearer {TOKEN}")
        fetch(REPO, hub=permitted)
        assert [(seen.range, seen.authorization) for seen in store.seen] == [
            (None, None),
            ("bytes=40000-", None),
        ]
    assert {seen.authorization for seen in server.seen} == {f"Bearer {TOKEN}"}


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


def environment(server: HubServer, cache: Path) -> dict[str, str]:
    mine = {"HF_ENDPOINT": server.address, "HF_HUB_CACHE": str(cache), "HF_TOKEN": TOKEN}
    home = {"HF_HOME": str(cache.parent / "home"), "NO_PROXY": "127.0.0.1"}
    return {**os.environ, **mine, **home}


def test_a_killed_download_goes_on(server: HubServer, hub: Hub) -> None:
    server.hang[WEIGHTS] = [200_000]
    command = [sys.executable, "-m", "h2q", "crystallize", f"hf:{REPO}", "-o", "never.crystal"]
    process = subprocess.Popen(
        command, env=environment(server, hub.cache), stderr=subprocess.PIPE, cwd=hub.cache.parent
    )
    assert server.waiting.wait(120)
    (partial,) = [hub.cache / "models--tester--seed" / "blobs"]
    while not (found := list(partial.glob("*.incomplete"))) or found[0].stat().st_size < 100_000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept = found[0].stat().st_size
    assert {seen.authorization for seen in server.seen} == {f"Bearer {TOKEN}"}
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(WEIGHTS) == [None, f"bytes={kept}-"]
    assert not list(hub.cache.parent.glob("*never*"))


def test_commands_take_names(server: HubServer, hub: Hub, seed_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The old house stood at the edge of the sea, and the night was long. " * 20)
    options = ["--text", str(text), "--tokens", "100", "--length", "50", "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "h2q", "eval", seed_path, "--against", f"hf:{REPO}", *options],
        env=environment(server, hub.cache),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["quality"] > 0.5
    assert "fetch the weights ..." in result.stderr


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("hf:tester/none", 3, "no such model"),
        ("hf:../x", 3, "not the name of a model"),
        ("ollama:gone", 3, "Known models are tiny:latest."),
        ("ollama:../x", 3, "is not a name"),
    ],
)
def test_mistaken_names(
    server: HubServer, hub: Hub, tmp_path: Path, place: str, code: int, words: str
) -> None:
    from ollama_stores import Store

    Store(tmp_path / "ollama").add("registry.ollama.ai/library/tiny/latest")
    result = subprocess.run(
        [sys.executable, "-m", "h2q", "crystallize", place, "-o", "x.crystal", "--json"],
        env={**environment(server, hub.cache), "OLLAMA_MODELS": str(tmp_path / "ollama")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == code, result.stderr
    error = json.loads(result.stdout)["error"]
    assert words in f"{error['what']} {error['fix']}"
    assert result.stderr.startswith("error: ")
    assert TOKEN not in result.stdout + result.stderr
    assert not (tmp_path / "x.crystal").exists()


def test_the_library_is_loaded_only_for_the_hub() -> None:
    code = (
        "import sys, h2q.cli.main, h2q.sources;"
        "sys.exit(any(m.split('.')[0] in ('huggingface_hub', 'httpx2') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
