"""One way to open a model to be read, wherever it is: a folder, a GGUF file, a name on the hub or
in an Ollama store.
"""

from __future__ import annotations

from pathlib import Path

from h2q.core.errors import SourceError
from h2q.core.events import ProgressListener, silent
from h2q.core.files import plain_file
from h2q.core.gguf_header import MAGIC
from h2q.sources.hf_dir import HFDirectory
from h2q.sources.source import Source

FORMS = "Give a folder with config.json, a .gguf file, hf:org/name or ollama:name."
HUB, OLLAMA = "hf:", "ollama:"


def open_source(where: str | Path, progress: ProgressListener = silent) -> Source:
    """A model ready to be read.

    Text may be `hf:org/name[@revision]` (fetched, or taken from the cache), `ollama:name[:tag]`, or
    a path; a Path is always a path. Raises SourceError with what is wrong and what to do,
    NetworkError and AccessError when fetching fails, ResourceError when the disk is full.
    """
    if isinstance(where, str) and where.startswith(HUB):
        from h2q.sources.hub import fetch

        return HFDirectory(fetch(where.removeprefix(HUB), progress))
    if isinstance(where, str) and where.startswith(OLLAMA):
        from h2q.sources.ollama_store import find_model

        model = find_model(where.removeprefix(OLLAMA))
        model.verify(progress)
        return _open_gguf(model.path)
    return _open_path(Path(where))


def _open_path(path: Path) -> Source:
    if (path.suffix == ".gguf" and not path.is_dir()) or _begins_gguf(path):
        return _open_gguf(path)
    if path.is_file():
        raise SourceError("This file is no model.", where=path.name, fix=FORMS)
    if not (path / "config.json").is_file():
        raise SourceError(
            "There is no model here." if path.is_dir() else "There is no such folder.",
            where=path.name or str(path),
            fix=FORMS,
        )
    return HFDirectory(path)


def _begins_gguf(path: Path) -> bool:
    """Whether a file of any name, such as a blob of a store, is a GGUF file."""
    if not path.is_file():
        return False
    with plain_file(path, SourceError) as (file, _):
        return file.read(len(MAGIC)) == MAGIC


def _open_gguf(path: Path) -> Source:
    from h2q.sources.gguf_file import GGUFSource  # the gguf package takes its time

    return GGUFSource(path)
