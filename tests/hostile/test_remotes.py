"""A hub that lies: names, listings, sizes, checksums, redirects and bodies it should not send."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import WEIGHTS
from h2q.core.errors import H2QError, NetworkError, SourceError, UsageError
from h2q.sources import hub_listing
from h2q.sources.hub import INDEX, fetch
from h2q.sources.hub_listing import parse_remote
from h2q.sources.hub_wire import Hub, next_address
from hub_server import COMMIT, REPO, HubServer

SEED = Path(__file__).parents[2] / "src" / "h2q" / "assets" / "seed"
CONFIG = "config.json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "name",
        "a/b/c",
        "../x",
        "a/..",
        "a/../b",
        "/etc/passwd",
        "a/b@",
        "a/b@../main",
        "a/b@x/../y",
        "a/b@x//y",
        "a/b@/x",
        "a/b@x/",
        "a/b@.x",
        "a/b@x/.y",
        "a/b@x.lock",
        "a/b@x y",
        "a/b@x\n",
        "a/b@" + "x" * 201,
        "a/b--c",
        "a/b..c",
        "a/b.git",
        "-a/b",
        "a/b-",
        "a/b?x=1",
        "a/b#x",
        "a/b%2e%2e",
        "a\\b/c",
        "ａ/b",
        "a/" + "b" * 97,
        "user:password@host/x",
    ],
)
def test_names_that_are_none(server: HubServer, hub: Hub, text: str) -> None:
    with pytest.raises(SourceError, match="hf:org/name"):
        fetch(text, hub=hub)
    assert server.seen == []
    assert not hub.cache.exists()


@given(st.text(max_size=60))
def test_a_name_never_leaves_its_folder(text: str) -> None:
    try:
        name = parse_remote(text)
    except SourceError:
        return
    for path in (Path("/cache", name.repo), Path("/cache", name.revision)):
        assert Path(os.path.normpath(path)) == path
        assert len(path.parts) > 2


@pytest.mark.parametrize(
    "endpoint", ["", "hub.example", "file:///etc", "http://", "https://h:port"]
)
def test_endpoints_that_are_none(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        Hub(endpoint, tmp_path)


@pytest.mark.parametrize(
    "listing",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        json.dumps({"sha": "../../../x", "siblings": []}).encode(),
        json.dumps({"sha": COMMIT + "0", "siblings": []}).encode(),
        json.dumps({"sha": COMMIT, "siblings": {}}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [7, None, {"rfilename": 7}]}).encode(),
    ],
)
def test_listings_that_are_none(server: HubServer, hub: Hub, listing: bytes) -> None:
    server.listing = listing
    with pytest.raises(SourceError):
        fetch(REPO, hub=hub)
    assert not list(hub.cache.rglob("*"))


def test_a_listing_without_an_end(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_listing, "LISTING_LIMIT", 100_000)
    server.listing = b'{"a": "' + b" " * 200_000
    with pytest.raises(NetworkError, match="more than 100,000 bytes"):
        fetch(REPO, hub=hub)


@pytest.mark.parametrize(
    ("file", "row"),
    [
        (CONFIG, {"blobId": "../../../../escaped"}),
        (CONFIG, {"blobId": "0" * 39 + "/"}),
        (CONFIG, {"blobId": None}),
        (CONFIG, {"size": -1}),
        (CONFIG, {"size": True}),
        (CONFIG, {"size": None}),
        (CONFIG, {"size": 1 << 21}),
        (CONFIG, {"size": 1e3}),
        (CONFIG, {"lfs": {"sha256": "../escaped", "size": 10}}),
        (WEIGHTS, {"lfs": {"sha256": "../../escaped", "size": 10}}),
        (WEIGHTS, {"lfs": {"sha256": "0" * 64 + "\n", "size": 10}}),
        (WEIGHTS, {"lfs": {"sha256": "0" * 64, "size": 1 << 50}}),
        (WEIGHTS, {"lfs": {"size": 10}}),
        (WEIGHTS, {"lfs": {}}),
    ],
)
def test_rows_that_lie(server: HubServer, hub: Hub, file: str, row: dict[str, Any]) -> None:
    server.rows[file] = row
    with pytest.raises(SourceError, match=r"size|checksum"):
        fetch(REPO, hub=hub)
    assert server.asked(file) == []
    assert not list(hub.cache.parent.rglob("*escaped*"))


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/passwd", "model.bin", "gone.safetensors", "a/b.safetensors"]
)
def test_an_index_that_points_elsewhere(server: HubServer, hub: Hub, shard: str) -> None:
    server.files[INDEX] = json.dumps({"weight_map": {"a": shard}}).encode()
    server.files["model.bin"] = b"\x80\x04."
    del server.files[WEIGHTS]
    with pytest.raises(SourceError, match="index"):
        fetch(REPO, hub=hub)
    assert {seen.file for seen in server.seen} == {"", CONFIG, "tokenizer.json", INDEX}


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_bytes_that_are_not_those_announced(server: HubServer, hub: Hub, file: str) -> None:
    data = server.files[file]
    listing = server.describe()
    server.listing = listing
    server.files[file] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(SourceError, match="checksum"):
        fetch(REPO, hub=hub)
    assert not list(hub.cache.rglob("*.incomplete"))
    server.files[file] = data
    assert (fetch(REPO, hub=hub) / file).read_bytes() == data


@pytest.mark.parametrize("change", [-1, 1, 5_000])
def test_sizes_that_are_not_those_announced(server: HubServer, hub: Hub, change: int) -> None:
    listing = server.describe()
    server.listing = listing
    data = server.files[WEIGHTS]
    server.files[WEIGHTS] = data[:change] if change < 0 else data + b"x" * change
    with pytest.raises(SourceError, match="another number"):
        fetch(REPO, hub=hub)


@pytest.mark.parametrize("length", ["", "9" * 30, "-1", "x"])
def test_more_bytes_than_announced(server: HubServer, hub: Hub, length: str) -> None:
    """Whatever the header says, no more than the announced size is written."""
    server.listing = server.describe()
    server.files[WEIGHTS] += b"x" * 100_000
    server.headers = {"Content-Length": length}
    with pytest.raises(H2QError):
        fetch(REPO, hub=hub)
    limit = len(server.files[WEIGHTS]) - 100_000
    assert all(path.stat().st_size <= limit for path in hub.cache.rglob("*.incomplete"))


def test_a_partial_file_of_something_else(server: HubServer, hub: Hub) -> None:
    blobs = hub.cache / "models--tester--seed" / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{server.digest(WEIGHTS)}.h2q.incomplete"
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match="checksum"):
        fetch(REPO, hub=hub)
    partial.write_bytes(b"x" * (len(server.files[WEIGHTS]) + 1))
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]


@pytest.mark.parametrize("header", ["bytes 0-9/10", "bytes 5-/7", "", "bytes " + "9" * 60 + "-1/2"])
def test_another_part_than_asked_for(server: HubServer, hub: Hub, header: str) -> None:
    server.drop[WEIGHTS] = [1000]
    server.headers = {"Content-Range": header}
    with pytest.raises(NetworkError, match="another part"):
        fetch(REPO, hub=hub)


def test_a_compressed_body(server: HubServer, hub: Hub) -> None:
    server.listing = gzip.compress(b" " * 50_000_000)
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(NetworkError, match="compression"):
        fetch(REPO, hub=hub)


def test_redirects_without_an_end(server: HubServer, hub: Hub) -> None:
    server.redirect[CONFIG] = f"/x/{CONFIG}"
    with pytest.raises(NetworkError, match="more than 5 times"):
        fetch(REPO, hub=hub)
    assert sum(CONFIG in seen.path for seen in server.seen) == 5


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://hub.example/x", "from https to http"),
        ("https://127.0.0.1/x", "private"),
        ("https://169.254.169.254/latest", "private"),
        ("https://10.0.0.1:8080/x", "private"),
        ("https://[::1]/x", "private"),
        ("https://[fd00::1]/x", "private"),
        ("https://[::ffff:10.0.0.1]/x", "private"),
        ("https://localhost/x", "private"),
        ("https://user:word@hub.example/x", "no address"),
        ("file:///etc/passwd", "no address"),
        ("ftp://hub.example/x", "no address"),
        ("https://h:port/x", "no address"),
        ("https://[x/", "no address"),
        ("", "no address"),
    ],
)
def test_where_a_redirect_may_not_lead(tmp_path: Path, target: str, words: str) -> None:
    hub = Hub("https://8.8.8.8", tmp_path)
    with pytest.raises(NetworkError, match=words):
        next_address(hub, "https://8.8.8.8/a/b/resolve/main/c", target, "hf:a/b")


def test_where_a_redirect_may_lead(tmp_path: Path) -> None:
    hub = Hub("https://8.8.8.8", tmp_path)
    asked = "https://8.8.8.8/a/b/resolve/main/c"
    for target in ("https://8.8.4.4/x?y=z", "https://8.8.8.8:8443/x"):
        assert next_address(hub, asked, target, "") == target
    assert next_address(hub, asked, "/x", "") == "https://8.8.8.8/x"
    inside = Hub("http://10.0.0.1", tmp_path)
    assert next_address(inside, "http://10.0.0.1/a", "http://10.0.0.2/b", "") == "http://10.0.0.2/b"
