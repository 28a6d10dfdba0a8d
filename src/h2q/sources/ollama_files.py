"""Files of an Ollama store, reached by digest: blobs named by their sha256.

    blobs/sha256-<64 hex digits>    what the manifests point to; older stores write sha256:<...>

A digest is checked before it becomes a path, a path that leaves the store is refused, sizes must
agree. Nothing is ever written.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.safetensors_header import parse_json

MANIFEST_LIMIT = 4 << 20
TEXT_LIMIT = 1 << 20  # of a config, template, system text, parameters, messages, license
DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def read_manifest(store: Path, path: Path, name: str) -> dict[str, Any]:
    """The JSON object of a manifest. Raises SourceError."""
    data = _read(inside(store, path, name), MANIFEST_LIMIT, name)
    if not data.strip():
        raise SourceError("The manifest is empty.", where=name, fix=pull_again(name))
    return parse_json(data, name, SourceError)


def find_blob(store: Path, entry: dict[str, Any], name: str) -> tuple[Path, str, int]:
    """Path, digest in hex and size of what an entry of a manifest points to. Raises SourceError."""
    digest, size = entry.get("digest"), entry.get("size")
    match = DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None or isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise SourceError("The manifest has a malformed digest or size.", where=name)
    plain = match[1].lower()
    for written in (f"sha256-{plain}", f"sha256:{plain}"):
        if not os.path.lexists(store / "blobs" / written):
            continue
        path = inside(store, store / "blobs" / written, name)
        if (actual := path.stat().st_size) != size:
            raise SourceError(
                f"A stored file should be {size:,} bytes long and is {actual:,}.",
                where=name,
                fix=pull_again(name),
            )
        return path, plain, size
    raise SourceError(
        "A file that the manifest names is missing.",
        where=name,
        fix=pull_again(name),
    )


def read_blob(store: Path, entry: dict[str, Any], name: str) -> bytes:
    """A small blob whose checksum was proven. Raises SourceError."""
    path, digest, _size = find_blob(store, entry, name)
    data = _read(path, TEXT_LIMIT, name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise SourceError(
            "A text layer is damaged: its checksum is not the one it is named by.",
            where=name,
            fix=pull_again(name),
        )
    return data


def inside(store: Path, path: Path, name: str) -> Path:
    """The path without links, a plain file of this store. Raises SourceError."""
    try:
        real = path.resolve(strict=True)
        inside = real.is_relative_to(store.resolve(strict=True))
    except (OSError, RuntimeError) as error:
        raise SourceError("The store cannot be read.", where=name) from error
    if not inside or not real.is_file():
        raise SourceError(
            "A link leaves the store, or something in it is not a file.",
            where=name,
            fix="Point OLLAMA_MODELS at the folder that really holds the models.",
        )
    return real


def _read(path: Path, limit: int, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise SourceError(f"The store cannot be read: {error.strerror}.", where=name) from error
    if len(data) > limit:
        raise SourceError(f"A small file of the store exceeds {limit:,} bytes.", where=name)
    return data


def pull_again(name: str) -> str:
    """What to do about a damaged model."""
    return f"Fetch it again with `ollama pull {name}`."
