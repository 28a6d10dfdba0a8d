"""How a start goes: a random crystal of a real shape, cold and warm, against llama.cpp loading its
Q4_K_M of the same shape in the same run; memory promised, given back, and kept over many requests.

Cold: files of the model are put out of the system's cache, proven by asking it; programs stay warm
on both sides, Python's as bytecode, as an installation or a first start leaves them. Our time
counts from the birth of the process, llama.cpp's from its call to load.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2q.bench.llama_files import write_llama
from h2q.bench.llama_peer import LlamaLibrary, installed
from h2q.bench.machine import Neighbours, machine
from h2q.bench.random_crystal import write_random
from h2q.bench.random_model import DEFAULT_SHAPE, SHAPES
from h2q.bench.rows import Row
from h2q.bench.start_rows import MIX, ROWS, Starts
from h2q.core.errors import UsageError
from h2q.core.events import Progress, ProgressListener, silent

GROUPS = tuple(ROWS)
MISSING = "llama-cpp-python is not installed, so there is no peer: make bench-peers"


@dataclass(frozen=True)
class StartOptions:
    """`shape` of SHAPES; `only` these of GROUPS, all where it is empty; `files`: a folder that
    keeps the crystal and llama.cpp's file between runs. Raises UsageError for what does not exist.
    """

    shape: str = DEFAULT_SHAPE
    only: tuple[str, ...] = ()
    repeats: int = 3
    files: Path | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UsageError(
                f"There is no shape {self.shape!r}.", fix=f"Known: {', '.join(SHAPES)}."
            )
        for name in self.only:
            if name not in GROUPS:
                raise UsageError(
                    f"There is no group of rows {name!r}.", fix=f"Known: {', '.join(GROUPS)}."
                )


def bench_start(
    options: StartOptions | None = None, progress: ProgressListener = silent
) -> dict[str, Any]:
    """All rows of `h2q bench start`. Raises ResourceError where files cannot be written, or kept
    out of memory, or a process fails.
    """
    options = options or StartOptions()
    library = LlamaLibrary() if installed() else None
    document: dict[str, Any] = {
        "machine": {**machine(), **(library.about() if library else {})},
        "peer": "llama.cpp" if library else MISSING,
        "shape": options.shape,
    }
    wanted = [name for name in GROUPS if not options.only or name in options.only]
    with ExitStack() as stack:
        folder = options.files
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress(Progress("bench start", 0, len(wanted)))
        starts = _prepared(options, folder, library is not None)
        neighbours = Neighbours()
        found: list[Row] = []
        for index, name in enumerate(wanted):
            progress(Progress("bench start", index, len(wanted)))
            found += ROWS[name](starts)
        progress(Progress("bench start", len(wanted), len(wanted)))
        document["busy_elsewhere"] = neighbours.share()
    document["details"] = starts.details
    return {**document, "results": {row.name: row.document() for row in found}}


def _prepared(options: StartOptions, folder: Path, peer: bool) -> Starts:
    crystal, spec = folder / f"{options.shape}.crystal", SHAPES[options.shape]
    if not crystal.exists():
        write_random(crystal, spec)
    file = folder / f"{options.shape}.{MIX}.gguf"
    if peer and not file.exists():
        write_llama(file, spec, MIX)
    return Starts(options.shape, options.repeats, crystal, file if peer else None)
