"""Models of an Ollama registry: the manifest, then the blobs it names, each continued where it
broke off and proven by its digest.

    GET /v2/<namespace>/<model>/manifests/<tag>
    GET /v2/<namespace>/<model>/blobs/sha256:<64 hex>    may redirect to where the bytes are
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2q.core.disk import replacement, writing
from h2q.core.errors import (
    AccessError,
    H2QError,
    NetworkError,
    ResourceError,
    SourceError,
    UsageError,
)
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.model_name import OllamaName, parse_name
from h2q.core.safetensors_header import parse_json
from h2q.core.units import format_bytes
from h2q.sources.hub_listing import MAX_SIZE, RemoteFile
from h2q.sources.hub_transfer import complete, file_digest
from h2q.sources.hub_wire import Hub, is_private, read_small
from h2q.sources.ollama_files import DIGEST, MANIFEST_LIMIT, TEXT_LIMIT
from h2q.sources.ollama_model import IMAGE, OllamaModel, read_model, require_kind
from h2q.sources.source_files import PARTIAL, alone, blob_path, publish

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
PULLING = "pulling sha256:"
MAX_LAYERS = 1_000


@dataclass(frozen=True)
class Registry:
    """A model in a registry. `plain`: over http, which only this machine may be asked by."""

    name: OllamaName
    plain: bool = False

    @property
    def endpoint(self) -> str:
        return f"{'http' if self.plain else 'https'}://{self.name.host}"

    @property
    def base(self) -> str:
        """The address of its manifests and blobs."""
        return f"{self.endpoint}/v2/{self.name.namespace}/{self.name.model}"


@dataclass(frozen=True)
class Manifest:
    """What a registry answered: the document, its bytes, and their sha256 in hex."""

    document: dict[str, Any]
    data: bytes
    digest: str


def parse_registry(text: str) -> Registry:
    """`[http://]host/namespace/model:tag`, defaults filled in. Raises SourceError, UsageError."""
    plain = text.startswith("http://")
    name = parse_name(text.removeprefix("http://").removeprefix("https://"))
    if plain and name.host.rpartition(":")[0] not in LOOPBACK and name.host not in LOOPBACK:
        raise UsageError(
            "A registry is asked over https.",
            where=str(name),
            fix="http:// is for one on this machine.",
        )
    return Registry(name, plain)


def ask_manifest(registry: Registry, private: bool = False) -> Manifest:
    """The manifest of a model that this version can read. private: the registry may have an
    address that is not open to the world. Raises NetworkError, AccessError, SourceError.
    """
    name = registry.name
    if not private and is_private(name.host.rpartition(":")[0] or name.host):
        raise AccessError(
            "The registry is at a private address.",
            where=str(name),
            fix="Pull from it with `h2q pull` on the command line.",
        )
    with _worded(str(name)):
        data = read_small(
            _hub(registry), f"{registry.base}/manifests/{name.tag}", MANIFEST_LIMIT, str(name)
        )
    document = parse_json(data, str(name), SourceError)
    for file, kind in _files(document, str(name)):
        if kind:
            require_kind(kind, str(name))
        if kind != f"{IMAGE}model" and file.size > TEXT_LIMIT:
            raise SourceError(f"A text layer exceeds {TEXT_LIMIT:,} bytes.", where=str(name))
    return Manifest(document, data, hashlib.sha256(data).hexdigest())


def fetch_blobs(
    registry: Registry, manifest: Manifest, folder: Path, progress: ProgressListener = silent
) -> OllamaModel:
    """The model with all its files in `folder` (see source_files). Raises NetworkError,
    AccessError, SourceError, ResourceError; what has arrived by then is kept.
    """
    name = registry.name
    files = [file for file, _ in _files(manifest.document, str(name))]
    _require_space(folder, files)
    for file in files:
        _fetch(registry, file, folder, progress)
    place = folder.joinpath("manifests", *name.parts)
    with writing("manifest", str(name)), replacement(place, ".writing") as fresh:
        fresh.write_bytes(manifest.data)
    return read_model(folder, place)


def _fetch(registry: Registry, file: RemoteFile, folder: Path, progress: ProgressListener) -> None:
    blob = blob_path(folder, file.digest)
    partial = blob.with_name(blob.name + PARTIAL)
    stage = PULLING + file.digest

    def heard(done: int) -> None:
        progress(Progress(stage, done, file.size, "bytes"))

    with writing("download", str(registry.name), "what was fetched is kept"):
        if _whole(blob, file):
            heard(file.size)
            return
        with alone(partial):
            if _whole(blob, file):  # another one was as quick
                partial.unlink()
                heard(file.size)
                return
            heard(partial.stat().st_size)
            url = f"{registry.base}/blobs/sha256:{file.digest}"
            with _worded(str(registry.name)):
                complete(_hub(registry), url, file, partial, heard)
            if file_digest(partial, file) != file.digest:
                partial.unlink()
                raise SourceError(
                    "A layer is not what its digest says; it was deleted.",
                    where=f"{registry.name} sha256:{file.digest[:12]}",
                    fix="Pull again to fetch it anew.",
                )
            publish(partial, blob)


def _whole(blob: Path, file: RemoteFile) -> bool:
    """Blobs were proven before they got their name; a cut-short one is fetched again."""
    return blob.is_file() and blob.stat().st_size == file.size


def _files(document: dict[str, Any], where: str) -> list[tuple[RemoteFile, str]]:
    """Config and layers with their media types, each digest once."""
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise SourceError("The manifest has no list of layers.", where=where)
    found: dict[str, tuple[RemoteFile, str]] = {}
    for index, entry in enumerate([document.get("config"), *layers]):
        row = entry if isinstance(entry, dict) else {}
        digest, size = row.get("digest"), row.get("size")
        match = DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if match is None or isinstance(size, bool) or not isinstance(size, int):
            raise SourceError("The manifest has a malformed digest or size.", where=where)
        if not 0 <= size <= MAX_SIZE:
            raise SourceError("A layer has an impossible size.", where=where)
        plain = match[1].lower()
        kind = str(row.get("mediaType")) if index else ""
        found[plain] = RemoteFile(plain, size, plain), kind
    return list(found.values())


def _require_space(folder: Path, files: list[RemoteFile]) -> None:
    with writing("store", folder.name):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    missing = [file for file in files if not _whole(blob_path(folder, file.digest), file)]
    needed = sum(file.size for file in missing)
    if needed > free:
        raise ResourceError(
            f"The files to fetch take {format_bytes(needed)}, the disk has {format_bytes(free)}.",
            fix="Free some space, or point H2Q_HOME at another disk.",
        )


def _hub(registry: Registry) -> Hub:
    return Hub(registry.endpoint, Path(), accept=f"{MANIFEST_TYPE}, */*")


@contextmanager
def _worded(where: str) -> Iterator[None]:
    """What the wire says about a hub, said about a registry."""
    try:
        yield
    except (AccessError, SourceError, NetworkError) as error:
        kind: type[H2QError] = type(error)
        what, fix = error.what.replace("The hub", "The registry"), error.fix
        if isinstance(error, AccessError):
            what = "The registry does not show this model: it does not exist, or is private."
            fix = "Check the name."
        elif "on the hub" in what:
            what, fix = "There is no such model in the registry.", "Check the name and the tag."
        raise kind(what, where=where, fix=fix) from error
