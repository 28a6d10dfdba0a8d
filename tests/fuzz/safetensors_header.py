"""Coverage-guided fuzzing of safetensors headers (`make fuzz`).

Any exception but SourceError is a finding, and so is a file that both we and the library read, but
not as the same tensors.
"""

from __future__ import annotations

import io
import json

import atheris
from fuzzing import fuzz

with atheris.instrument_imports(include=["h2q"]):
    from h2q.core.errors import SourceError
    from h2q.core.safetensors_header import parse_header

import safetensors


def one_input(data: bytes) -> None:
    """Read a header, and what the library makes of it."""
    try:
        ours = parse_header(io.BytesIO(data), len(data), "fuzz.safetensors", SourceError)
    except SourceError:
        return
    try:
        theirs = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        return  # such as metadata that are no text; nothing we would read wrongly
    found = {
        name: (row["dtype"], tuple(row["shape"]), bytes(row["data"]))
        for name, row in theirs.items()
    }
    assert found == {e.name: (e.dtype, e.shape, data[e.begin : e.end]) for e in ours.values()}


def file(text: str, size: int) -> bytes:
    header = text.encode()
    return len(header).to_bytes(8, "little") + header + bytes(range(size))


def seeds() -> dict[str, bytes]:
    """Two tensors with metadata, an empty one, and none."""
    rows = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
    }
    empty = {"e": {"dtype": "U8", "shape": [0, 7], "data_offsets": [0, 0]}}
    return {
        "two": file(json.dumps(rows), 16),
        "empty": file(json.dumps(empty, separators=(",", ":")) + "   ", 0),
        "none": file("{}", 0),
    }


if __name__ == "__main__":
    fuzz("safetensors", one_input, seeds())
