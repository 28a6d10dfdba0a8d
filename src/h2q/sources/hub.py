"""`hf:org/name`: the files a crystal is grown from, fetched from the hub into the cache that
Hugging Face libraries share. Never pickles, never code.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from h2q.core.errors import NetworkError, ResourceError, SourceError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.units import format_bytes
from h2q.sources.hf_dir import CONFIG_LIMIT, INDEX_LIMIT, TOKENIZER_LIMIT, read_config, read_index
from h2q.sources.hub_cache import Snapshot, remembered
from h2q.sources.hub_listing import Listing, RemoteFile, RemoteName, parse_remote, read_listing
from h2q.sources.hub_transfer import transfer
from h2q.sources.hub_wire import Hub, default_hub

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
REQUIRED = {"config.json": CONFIG_LIMIT, "tokenizer.json": TOKENIZER_LIMIT}
WELCOME = {
    "generation_config.json": CONFIG_LIMIT,
    "tokenizer_config.json": TOKENIZER_LIMIT,
    "chat_template.jinja": CONFIG_LIMIT,
    INDEX: INDEX_LIMIT,
}


def fetch(text: str, progress: ProgressListener = silent, hub: Hub | None = None) -> Path:
    """A folder with the model `org/name[@revision]`: fetched, continued, or found in the cache when
    the hub cannot be reached.

    Config and tokenizer come first, so that a model this version cannot run costs no weights.
    Raises SourceError, AccessError, NetworkError, ResourceError.
    """
    name, hub = parse_remote(text), hub or default_hub()
    try:
        listing = read_listing(hub, name)
    except NetworkError as error:
        return _from_cache(hub, name, error, progress)
    snapshot = Snapshot(hub.cache, name, listing.commit)
    description = _description(listing)
    _fetch(hub, listing, snapshot, description, "fetch the description", progress)
    read_config(snapshot.folder)
    weights = _weights(listing, snapshot)
    _fetch(hub, listing, snapshot, weights, "fetch the weights", progress)
    snapshot.remember()
    return snapshot.folder


def _description(listing: Listing) -> list[RemoteFile]:
    if missing := [file for file in REQUIRED if file not in listing]:
        raise SourceError(
            f"The model has no {' and no '.join(missing)}.",
            where=str(listing.name),
            fix="This version reads models with a config and a fast tokenizer.",
        )
    if WEIGHTS not in listing and INDEX not in listing:
        raise SourceError(
            "The model has no model.safetensors.",
            where=str(listing.name),
            fix="Pickled weights are never read here; look for a safetensors version of the model.",
        )
    wanted = {**REQUIRED, **{file: limit for file, limit in WELCOME.items() if file in listing}}
    if WEIGHTS in listing:
        wanted.pop(INDEX, None)
    return [listing.file(file, limit) for file, limit in wanted.items()]


def _weights(listing: Listing, snapshot: Snapshot) -> list[RemoteFile]:
    names = [WEIGHTS] if WEIGHTS in listing else read_index(snapshot.folder / INDEX)
    for name in names:
        if not name.endswith(".safetensors") or name not in listing:
            raise SourceError(
                f"The index names {name[:100]!r}, which is no safetensors file of the model.",
                where=str(listing.name),
            )
    return [listing.file(name) for name in names]


def _fetch(
    hub: Hub,
    listing: Listing,
    snapshot: Snapshot,
    files: list[RemoteFile],
    stage: str,
    progress: ProgressListener,
) -> None:
    missing = [file for file in files if not snapshot.has(file)]
    _require_space(hub.cache, snapshot, missing)
    total = sum(file.size for file in files)
    done = total - sum(file.size for file in missing)
    for index, file in enumerate(missing, len(files) - len(missing)):
        progress(Progress(f"{stage}: files", index, len(files), "files"))

        def heard(size: int, before: int = done) -> None:
            progress(Progress(stage, before + size, total, "bytes"))

        transfer(hub, listing, file, snapshot, heard)
        done += file.size
    progress(Progress(stage, total, total, "bytes"))
    progress(Progress(f"{stage}: files", len(files), len(files), "files"))


def _require_space(cache: Path, snapshot: Snapshot, files: list[RemoteFile]) -> None:
    """Raises ResourceError before the first byte when the disk cannot hold the last."""
    needed = 0
    for file in files:
        partial = snapshot.partial(file)
        needed += file.size - (partial.stat().st_size if partial.is_file() else 0)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise ResourceError(
            f"The cache cannot be written: {error.strerror}.",
            fix="Point HF_HUB_CACHE at a folder that may be written.",
        ) from error
    if needed > free:
        raise ResourceError(
            f"The files to fetch take {format_bytes(needed)}, the disk has {format_bytes(free)}.",
            fix="Free some space, or point HF_HUB_CACHE at another disk.",
        )


def _from_cache(
    hub: Hub, name: RemoteName, error: NetworkError, progress: ProgressListener
) -> Path:
    """The copy that was fetched before, if it is whole; else the error."""
    snapshot = remembered(hub.cache, name)
    if snapshot is None or not _is_whole(snapshot.folder):
        raise NetworkError(
            error.what,
            where=str(name),
            fix="The cache holds no whole copy either. " + error.fix,
        ) from error
    progress(Progress("the hub cannot be reached: taking the copy in the cache", 1, 1))
    return snapshot.folder


def _is_whole(folder: Path) -> bool:
    try:
        read_config(folder)
        shards = [WEIGHTS] if (folder / WEIGHTS).is_file() else read_index(folder / INDEX)
    except SourceError:
        return False
    return all((folder / file).is_file() for file in ("tokenizer.json", *shards))
