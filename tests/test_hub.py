"""`hf:org/name` against a server on the loopback that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from checkpoints import WEIGHTS, read_stored, write_stored
from h2q.core.architecture import tensors
from h2q.core.errors import (
    AccessError,
    Cancelled,
    NetworkError,
)
from h2q.core.events import Progress
from h2q.sources import Source, hub_transfer
from h2q.sources.hf_dir import HFDirectory
from h2q.sources.hub import fetch
from h2q.sources.hub_wire import Hub
from hub_server import REPO, HubServer, serving

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed"
INDEX = "model.safetensors.index.json"
FILES = ("config.json", "tokenizer.json", WEIGHTS)
TOKEN = "hf_of_a_tester"


def test_a_whole_download(server: HubServer, hub: Hub, seed_source: Source) -> None:
    heard: list[Progress] = []
    source = HFDirectory(fetch(REPO, heard.append, hub))
    for tensor in tensors(seed_source.spec):
        assert np.array_equal(source.tensor(tensor.name), seed_source.tensor(tensor.name))
    assert {seen.file for seen in server.seen} == {"", *FILES}
    size = len(server.files[WEIGHTS])
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
    for name in FILES:
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


def test_one_file_is_fetched_whatever_an_index_beside_it_says(server: HubServer, hub: Hub) -> None:
    server.files[INDEX] = json.dumps({"weight_map": {"a": "gone.safetensors"}}).encode()
    folder = fetch(REPO, hub=hub)
    assert (folder / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(INDEX) == []


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
