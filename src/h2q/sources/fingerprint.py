"""Whether a source is still the one it was: a hash that is quick for a checkpoint of any size.

sha256 over the description, the tokenizer, the chat template, and of every file that tensors are
read from: its name, size, modification time (ns), inode, and a sample of its content (the first and
last MiB whole, 64 pieces of 64 KiB spread between; a smaller file is read whole).

What it can miss: a change between the sampled pieces that keeps the size, the inode and the
modification time, as rotting hardware or a person who sets the time back makes it. What it does not
forgive: a copy of the same bytes counts as another source, because its inode and time are others.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from h2q.core.errors import SourceError
from h2q.core.files import plain_file
from h2q.sources.source import Source

END_BYTES = 1 << 20
PIECE_BYTES, PIECES = 64 << 10, 64


def fingerprint(source: Source) -> str:
    """The hash in hex. Raises SourceError when a file cannot be read."""
    digest = hashlib.sha256()
    texts = (
        json.dumps(source.spec.to_json(), sort_keys=True),
        source.tokenizer_json(),
        json.dumps(source.chat_template()),
    )
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    for path in source.files():
        digest.update(_file(path).encode())
    return digest.hexdigest()


def _file(path: Path) -> str:
    with plain_file(path, SourceError) as (file, size):
        found = os.fstat(file.fileno())
        digest = hashlib.sha256(
            json.dumps([path.name, size, found.st_mtime_ns, found.st_ino]).encode()
        )
        for begin, length in _pieces(size):
            file.seek(begin)
            digest.update(file.read(length))
    return digest.hexdigest()


def _pieces(size: int) -> list[tuple[int, int]]:
    """(begin, length) of what is read of a file of `size` bytes, in file order."""
    if size <= 2 * END_BYTES + PIECES * PIECE_BYTES:
        return [(0, size)]
    room = size - 2 * END_BYTES - PIECE_BYTES
    spread = [(END_BYTES + room * i // (PIECES - 1), PIECE_BYTES) for i in range(PIECES)]
    return [(0, END_BYTES), *spread, (size - END_BYTES, END_BYTES)]
