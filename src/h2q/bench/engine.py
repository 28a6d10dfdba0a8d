"""The engine on random weights at real shapes, against llama.cpp's on the same shapes in the same
run: decoding, prefill, many streams, drafts, what Python costs, resident memory.

Both sides run a loop of their own engine over the same lengths of random prompts on as many
threads, in turns: ours is a scheduler over pages of the default kind, greedy; theirs llama_decode
and the largest logit, with the library's defaults.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from h2q import kernels
from h2q.bench import engine_rows as rows
from h2q.bench.engine_bench import Bench
from h2q.bench.engine_costs import draft_rows, memory_rows, outside_rows
from h2q.bench.engine_drafts import accepted
from h2q.bench.engine_memory import measured
from h2q.bench.engine_runs import Lengths
from h2q.bench.llama_files import write_llama
from h2q.bench.llama_peer import LlamaLibrary, LlamaPeer, installed
from h2q.bench.machine import Neighbours, machine
from h2q.bench.random_model import DEFAULT_SHAPE, SHAPES, TRIAL, RandomWeights
from h2q.bench.rows import Row
from h2q.core.errors import UsageError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.kernels import references

GROUPS = ("decoding", "prefill", "streams", "outside", "memory", "drafts")
PEERS = {"decoding": rows.DECODING_PEERS, "prefill": rows.PREFILL_PEERS}
AHEADS, TRIAL_AHEADS = (1, 2, 3, 4, 6), (2,)
MISSING = "llama-cpp-python is not installed, so there is no peer: make bench-peers"


@dataclass(frozen=True)
class EngineOptions:
    """`shape` of SHAPES; `only` these of GROUPS, all where it is empty; `peer_files`: a folder that
    keeps llama.cpp's files (gigabytes) between runs; `crystal`: whose drafts are counted, the seed
    model's where there is none. Raises UsageError for what does not exist.
    """

    shape: str = DEFAULT_SHAPE
    only: tuple[str, ...] = ()
    repeats: int = 3
    peer_files: Path | None = None
    crystal: Path | None = None

    def __post_init__(self) -> None:
        _known("shape", [self.shape], SHAPES)
        _known("group of rows", self.only, GROUPS)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(name for name in GROUPS if name in self.only) or GROUPS


def bench_engine(
    options: EngineOptions | None = None, progress: ProgressListener = silent
) -> dict[str, Any]:
    """All rows of `h2q bench engine`. Raises KernelError without a native kernel path,
    ResourceError where a file of the peer cannot be written or read.
    """
    options = options or EngineOptions()
    references.require_native()
    spec, trial = SHAPES[options.shape], options.shape == TRIAL
    lengths = Lengths.trial() if trial else Lengths()
    library = LlamaLibrary() if installed() else None
    found: list[Row] = []
    document: dict[str, Any] = {
        "machine": {**machine(), **(library.about() if library else {})},
        "peer": "llama.cpp" if library else MISSING,
        "shape": options.shape,
        "model": spec.to_json(),
        "lengths": asdict(lengths),
    }
    with ExitStack() as stack:
        mixes = sorted({mix for group in options.groups for mix in PEERS.get(group, ())})
        peers: dict[str, LlamaPeer] = {}
        if library is not None and mixes:
            peers = stack.enter_context(_peers(library, options, mixes, lengths, progress))
        goals = options.shape == DEFAULT_SHAPE
        bench = Bench(RandomWeights(spec), lengths, options.repeats, goals, peers)
        neighbours = Neighbours()
        for index, group in enumerate(options.groups):
            progress(Progress("bench engine", index, len(options.groups)))
            if group == "decoding":
                found += rows.decode_rows(bench)
            elif group == "prefill":
                found += rows.prefill_rows(bench)
            elif group == "streams":
                found += rows.stream_rows(bench)
            elif group == "outside":
                found += outside_rows(bench)
                document["native"] = bench.profile
            elif group == "memory":
                began = time.perf_counter()
                memory = measured(options.shape, lengths.prefill, lengths.context)
                document["memory"] = {**asdict(memory), "above": memory.above}
                found += memory_rows(bench, memory, time.perf_counter() - began)
            else:
                said = accepted(options.crystal, TRIAL_AHEADS if trial else AHEADS, progress)
                document["drafts"] = asdict(said)
                found += draft_rows(bench, said.tokens)
        progress(Progress("bench engine", len(options.groups), len(options.groups)))
        document["busy_elsewhere"] = neighbours.share()
    return {**document, "results": {row.name: row.document() for row in found}}


def prepare_peers(folder: Path, shape: str, mixes: Sequence[str]) -> dict[str, Path]:
    """llama.cpp's files of a shape in a folder, by mix; what is there already stays."""
    found = {}
    for mix in mixes:
        found[mix] = folder / f"{shape}.{mix}.gguf"
        if not found[mix].exists():
            write_llama(found[mix], SHAPES[shape], mix)
    return found


@contextmanager
def _peers(
    library: LlamaLibrary,
    options: EngineOptions,
    mixes: Sequence[str],
    lengths: Lengths,
    progress: ProgressListener,
) -> Iterator[dict[str, LlamaPeer]]:
    with ExitStack() as stack:
        folder = options.peer_files
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = {}
        for index, mix in enumerate(mixes):
            progress(Progress("write llama.cpp's files", index, len(mixes)))
            path = prepare_peers(folder, options.shape, [mix])[mix]
            peer = LlamaPeer(library, path, lengths.positions, kernels.threads())
            stack.callback(peer.close)
            peers[mix] = peer
        progress(Progress("write llama.cpp's files", len(mixes), len(mixes)))
        yield peers


def _known(what: str, given: Sequence[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"There is no {what} {name!r}.", fix=f"Known: {', '.join(known)}.")
