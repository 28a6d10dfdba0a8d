"""A stream on disk: its tokens and the pages of their keys and values, whole or not at all.

The file is one of `crystal.entry`, proven by its checksum and bound to a key: keys and values of
other weights, planes or code would be silently wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2q.codec.pages import PAGE
from h2q.core.disk import replacement, writing
from h2q.core.errors import CrystalError, ResourceError
from h2q.crystal.entry import Array, Entry, Fact, read_entry, write_entry
from h2q.engine.page_pool import PagePool
from h2q.engine.stream import Stream, release

NAME, SUFFIX = "stream", ".stream"


def save_stream(stream: Stream, path: Path, key: str) -> None:
    """Write a stream to `path`. `key`: of everything its keys and values depend on (crystal,
    planes). Raises ResourceError when the disk is full or refuses.
    """
    write_stream(copy_stream(stream), path, key)


def copy_stream(stream: Stream) -> Entry:
    """A stream as it is now, to be written while its pages go on changing."""
    pages = [*stream.pages, *([] if stream.sinks is None else [stream.sinks])]
    arrays: dict[str, Array] = {"tokens": np.array(stream.tokens, np.int64)}
    for layer, store in enumerate(stream.pool.layers):
        for index, array in enumerate(store.arrays):
            arrays[f"layers.{layer}.{index}"] = array[pages]
    facts: dict[str, Fact] = {
        "kind": stream.pool.kind,
        "keep": stream.keep,
        "stored": stream.stored,
        "dropped": stream.dropped,
        "pages": len(stream.pages),
        "turned": stream.sinks is not None,
    }
    return Entry(arrays, facts)


def write_stream(copied: Entry, path: Path, key: str) -> None:
    """See save_stream; any thread may."""
    with writing("stream", path.name), replacement(path, SUFFIX) as temporary:
        write_entry(temporary, key, NAME, copied)


def saved_tokens(path: Path, key: str) -> list[int]:
    """Tokens of a saved stream that have keys and values, its checksum not looked at. Raises
    CrystalError.
    """
    entry = read_entry(path, key, NAME, proven=True)
    tokens, stored = entry.arrays.get("tokens"), entry.facts.get("stored")
    if tokens is None or tokens.dtype != np.int64 or tokens.ndim != 1 or type(stored) is not int:
        raise CrystalError("The stream contradicts itself.", where=path.name)
    return [int(token) for token in tokens[:stored]]


def load_stream(pool: PagePool, path: Path, key: str) -> Stream:
    """A stream that goes on where the saved one was, in pages of its own.

    Raises CrystalError when the file is damaged or was written under another key, for another kind
    of cache or model; ResourceError when the pool has too few pages.
    """
    entry = read_entry(path, key, NAME)
    facts, tokens = entry.facts, entry.arrays.get("tokens")
    counts = {name: facts.get(name) for name in ("keep", "stored", "dropped", "pages")}
    if (
        tokens is None
        or tokens.dtype != np.int64
        or tokens.ndim != 1
        or facts.get("kind") != pool.kind
        or any(type(count) is not int or count < 0 for count in counts.values())
    ):
        raise CrystalError("The stream does not fit this model and its cache.", where=path.name)
    stream = Stream(pool, tokens.tolist(), int(facts["keep"] or 0))
    stored, dropped, count = (int(facts[name] or 0) for name in ("stored", "dropped", "pages"))
    turned = facts.get("turned") is True
    held = stored - dropped * PAGE
    fits = 0 <= held <= count * PAGE < held + PAGE and stored <= len(stream.tokens)
    if not fits or turned != bool(dropped):
        raise CrystalError("The stream contradicts itself.", where=path.name)
    total = count + turned
    if total > pool.free:
        raise ResourceError(
            f"The saved stream takes {total:,} pages, the cache has {pool.free:,} left.",
            where=path.name,
        )
    pages = [pool.take() for _ in range(total)]
    try:
        _fill(pool, pages, entry.arrays, path.name)
    except CrystalError:
        release(pool, pages)
        raise
    stream.sinks = pages.pop() if turned else None
    stream.pages, stream.stored, stream.dropped = pages, stored, dropped
    stream.find_digests()
    return stream


def _fill(pool: PagePool, pages: list[int], arrays: dict[str, Any], where: str) -> None:
    for layer, store in enumerate(pool.layers):
        for index, array in enumerate(store.arrays):
            found = arrays.get(f"layers.{layer}.{index}")
            shape = (len(pages), *array.shape[1:])
            if found is None or found.shape != shape or found.dtype != array.dtype:
                raise CrystalError("The stream does not fit this model.", where=where)
            array[pages] = found
