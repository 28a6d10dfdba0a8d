"""The number formats in which a source holds its weights: no crystal of it is any better."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from h2q.core.errors import SourceError
from h2q.core.gguf_header import read_gguf_header
from h2q.core.safetensors_header import read_header

MAGIC = b"GGUF"
SCALES = ("_scale_inv", "_scales")
BLOCKS = "_blocks"  # of MXFP4, two weights a byte
WORTH_TELLING = 0.01  # of all weights


def precision(files: Iterable[Path]) -> str:
    """`BF16`, or `Q4_K, Q6_K` with the format of most weights first; formats of less than one in a
    hundred are left out. Empty where the files hold no weights. Raises SourceError.
    """
    counts = Counter[str]()
    for path in files:
        if path.suffix == ".json":
            continue
        for kind, count in _counted(path):
            counts[kind] += count
    least = WORTH_TELLING * counts.total()
    return ", ".join(kind for kind, count in counts.most_common() if count >= least)


def _counted(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic == MAGIC:
        header = read_gguf_header(path, SourceError)
        return [(each.type.name, math.prod(each.shape)) for each in header.tensors.values()]
    entries = read_header(path, SourceError).items()
    return [
        ("MXFP4", 2 * math.prod(e.shape))
        if name.endswith(BLOCKS)
        else (e.dtype, math.prod(e.shape))
        for name, e in entries
        if not name.endswith(SCALES)
    ]
