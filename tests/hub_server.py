"""A small server on the loopback that speaks the hub's protocol and misbehaves when a test asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from loopback import Handler, listening

COMMIT = "c0ffee" + "0" * 34
REPO = "tester/seed"
HANG_SECONDS = 600.0  # an answer that hangs ends by itself then, or when the server closes


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    range: str | None
    authorization: str | None

    @property
    def file(self) -> str:
        """Name of the file it asks for, empty for the API."""
        return self.path.rpartition("/")[2] if "/resolve/" in self.path else ""


@dataclass
class HubServer:
    """What is served, and every request that came. `drop`: file to byte counts, one per answer,
    after which the connection is cut; `hang`: the same, but the connection stays open and silent.
    """

    files: dict[str, bytes]
    large: tuple[str, ...] = (".safetensors", "tokenizer.json")
    token: str | None = None
    drop: dict[str, list[int]] = field(default_factory=dict)
    hang: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    redirect: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    listing: bytes | None = None
    ranges: bool = True
    seen: list[Seen] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def is_large(self, name: str) -> bool:
        """Whether the hub would keep it outside git, under its sha256."""
        return name.endswith(self.large)

    def digest(self, name: str) -> str:
        """Its ETag: sha256 of a large file, git's id of the blob of a small one."""
        data = self.files[name]
        if self.is_large(name):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def describe(self) -> bytes:
        """The API's answer about the model."""
        siblings = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
            if self.is_large(name):
                row["lfs"] = {"sha256": self.digest(name), "size": len(data), "pointerSize": 134}
            else:
                row["blobId"] = self.digest(name)
            siblings.append({**row, **self.rows.get(name, {})})
        return json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode()

    def asked(self, name: str) -> list[str | None]:
        """The ranges in which a file was asked for, in order."""
        return [seen.range for seen in self.seen if seen.file == name and seen.method == "GET"]


@contextmanager
def serving(hub: HubServer) -> Iterator[HubServer]:
    """The server on a free port of the loopback."""

    class Answers(Handler):
        timeout = HANG_SECONDS

        def do_GET(self) -> None:  # noqa: N802 - of http.server
            self._answer(body=True)

        def do_HEAD(self) -> None:  # noqa: N802 - of http.server
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            parts = urlsplit(self.path)
            permit = self.headers["Authorization"]
            hub.seen.append(Seen(self.command, parts.path, self.headers["Range"], permit))
            if parts.path.startswith("/api/models/"):
                key = "api"
            else:
                key = unquote(parts.path.rpartition("/")[2])
            if hub.token is not None and permit != f"Bearer {hub.token}":
                self.head(401, {"X-Error-Message": "Invalid username or password."}, 0)
            elif hub.status.get(key):
                status, headers = hub.status[key].pop(0)
                self.head(status, headers, 0)
            elif parts.path == f"/api/models/{REPO}/revision/main":
                text = hub.describe() if hub.listing is None else hub.listing
                self.head(200, {"Content-Type": "application/json", **hub.headers}, len(text))
                self.wfile.write(text)
            elif key in hub.redirect:
                self.head(302, {**self._names(key), "Location": hub.redirect[key]}, 0)
            elif key in hub.files and key != "api":
                self._file(key, body)
            else:
                self.head(404, {"X-Error-Code": "RepoNotFound"}, 0)

        def _names(self, name: str) -> dict[str, str]:
            names = {"X-Repo-Commit": COMMIT}
            if name in hub.files:
                names["ETag"] = f'"{hub.digest(name)}"'
                if hub.is_large(name):
                    names["X-Linked-Etag"] = names["ETag"]
                    names["X-Linked-Size"] = str(len(hub.files[name]))
            return names

        def _file(self, name: str, body: bool) -> None:
            data, headers, status = hub.files[name], self._names(name), 200
            if hub.ranges:
                status, data = self.rest(data, headers)
            self.head(status, {**headers, **hub.headers}, len(data))
            if not body:
                return
            if hub.drop.get(name):
                self.wfile.write(data[: hub.drop[name].pop(0)])
            elif hub.hang.get(name):
                self.wfile.write(data[: hub.hang[name].pop(0)])
                self.wfile.flush()
                hub.waiting.set()
                hub.stopped.wait(HANG_SECONDS)
            else:
                self.wfile.write(data)

    with listening(Answers, hub.stopped) as host:
        hub.address = f"http://{host}"
        yield hub
