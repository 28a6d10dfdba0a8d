"""An Ollama registry on the loopback over a store of `ollama_stores`; it breaks off on wish."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopback import Handler, listening
from ollama_stores import Store

NAMESPACE = "library"


@dataclass
class Registry:
    """`drop`: digest to byte counts, one per answer, after which the connection is cut; `asked`:
    paths with the ranges they were asked for; `hang`: digest whose body stops half-way until
    `go_on` is set.
    """

    store: Store
    host: str = ""
    drop: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    hang: str = ""
    waiting: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def add(self, name: str, weights: bytes, **texts: str) -> str:
        """A model; its name as one pulls it."""
        self.store.add(f"registry/{NAMESPACE}/{name}/latest", weights, **texts)
        return f"http://{self.host}/{NAMESPACE}/{name}"

    def installed(self, name: str) -> str:
        """Under which name it is installed then."""
        return f"{self.host}/{NAMESPACE}/{name}:latest"

    def weights(self, name: str) -> str:
        """Digest of a model's weights, 64 hex digits."""
        path = self.store.root / "manifests" / "registry" / NAMESPACE / name / "latest"
        layers = json.loads(path.read_text())["layers"]
        return str(layers[0]["digest"]).removeprefix("sha256:")

    def ranges(self, digest: str) -> list[str | None]:
        """In which a blob was asked for."""
        return [asked for path, asked in self.asked if path.endswith(digest)]


@contextmanager
def serving(root: Path) -> Iterator[Registry]:
    """A registry without models on a free port."""
    registry = Registry(Store(root))

    class Answers(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - of http.server
            registry.asked.append((self.path, self.headers["Range"]))
            parts = self.path.removeprefix("/v2/").split("/")
            if len(parts) != 4:
                return self._send(404, b"")
            space, model, kind, last = parts
            place = registry.store.root / "manifests" / "registry" / space / model / last
            if kind == "blobs":
                place = registry.store.root / "blobs" / last.replace(":", "-")
            if not place.is_file():
                return self._send(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            return self._file(place.read_bytes(), last.removeprefix("sha256:"))

        def _file(self, data: bytes, digest: str) -> None:
            headers = dict[str, str]()
            status, data = self.rest(data, headers)
            cuts = registry.drop.get(digest)
            if registry.hang == digest:
                self.head(status, headers, len(data))
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                registry.waiting.set()
                registry.go_on.wait(600)
                self.close_connection = True
            elif cuts:
                self.head(status, headers, len(data))
                self.wfile.write(data[: cuts.pop(0)])
                self.close_connection = True
            else:
                self._send(status, data, headers)

        def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.head(status, headers or {}, len(data))
            self.wfile.write(data)

    with listening(Answers, registry.go_on) as registry.host:
        yield registry
