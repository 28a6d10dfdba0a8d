"""Models in a local Ollama store, found by name and only ever read.

manifests/<host>/<namespace>/<model>/<tag>    JSON without an extension (`ollama_model.py`)
blobs/sha256-<64 hex digits>                  what the manifests point to (`ollama_files.py`)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from h2q.core.errors import SourceError
from h2q.core.model_name import OllamaName, parse_name
from h2q.sources.ollama_files import read_manifest
from h2q.sources.ollama_model import OllamaModel, read_model

SERVICE_STORE = Path("/usr/share/ollama/.ollama/models")
MAX_LISTED = 10_000
MAX_TOLD = 20


def stores() -> list[Path]:
    """Folders that may hold models: OLLAMA_MODELS when it is set, else the one of this person and
    the one of the system service.
    """
    if named := os.environ.get("OLLAMA_MODELS"):
        return [Path(named).expanduser()]
    return [Path.home() / ".ollama" / "models", SERVICE_STORE]


def find_model(text: str, places: list[Path] | None = None) -> OllamaModel:
    """The model of this name in the first store that has it. Raises SourceError."""
    name, known = parse_name(text), list[OllamaName]()
    for store in stores() if places is None else places:
        if path := _find_manifest(store, name):
            return read_model(store, path)
        known += list_models(store)
    told = ", ".join(map(str, known[:MAX_TOLD])) + (" and more" if len(known) > MAX_TOLD else "")
    raise SourceError(
        f"There is no model {name} in the Ollama store.",
        where=f"ollama:{text[:100]}",
        fix=f"Known models are {told}."
        if known
        else f"No store with models was found; `ollama pull {name}`, or set OLLAMA_MODELS.",
    )


def list_models(store: Path) -> list[OllamaName]:
    """Names in a store, sorted; manifests that are empty, no JSON or misnamed are passed over."""
    found = []
    for path in _manifests(store):
        try:
            name = OllamaName(*path.parts[-4:])
            read_manifest(store, path, str(name))
        except SourceError:
            continue
        found.append(name)
    return sorted(found, key=str)


def _manifests(store: Path) -> Iterator[Path]:
    level = [store / "manifests"]
    for _ in range(4):
        below: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as items:
                    below += [Path(item.path) for item in items if len(below) < MAX_LISTED]
            except OSError:
                continue
        level = below
    yield from level


def _find_manifest(store: Path, name: OllamaName) -> Path | None:
    """Every part as it is written, else in another case, if there is exactly one such."""
    path = store / "manifests"
    for part in name.parts:
        try:
            names = os.listdir(path)
        except OSError:
            return None
        fitting = [part] if part in names else [n for n in names if n.lower() == part.lower()]
        if len(fitting) > 1:
            raise SourceError(
                f"The store has {' and '.join(sorted(fitting))}.",
                where=str(name),
                fix="Write the name as the store does.",
            )
        if not fitting:
            return None
        path = path / fitting[0]
    return path
