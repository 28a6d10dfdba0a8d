"""A mixture of experts larger than its memory: does it stay within its budget, how often is an
expert there, how long does it wait for the disk.

Random codes at a real shape, written to the disk; each run is a process of its own that starts as
any model does. Routers of random weights choose nearly evenly, which is the worst there is for a
part that is kept in memory; those of a trained model have favourites, so there is a router that was
made to have some, too. A text is compared with that of the same model without a budget.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from h2q import kernels
from h2q.bench.expert_run import ExpertRun, measured
from h2q.bench.machine import Neighbours, machine
from h2q.bench.mixtures import MIXTURES, mixture
from h2q.bench.random_mixture import POOL, write_mixture
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Timing
from h2q.core.errors import UsageError
from h2q.core.events import Progress, ProgressListener, silent

SHAPE, TRIAL = "deepseek-v2-lite", "trial"
BUDGET = 2 * 10**9
TRIAL_ROOM = -(8 << 20)  # see expert_run.measured
TRIAL_POOL = 4 << 20
WHOLE = "all in memory"
TOKENIZER = Path(__file__).parents[1] / "assets" / "seed" / "tokenizer.json"
SKEW = 0.5
TOKENS, TRIAL_TOKENS = 24, 6
# Kind of crystal: bits of its planes, skew of its routers.
KINDS = {"even": ((2,), 0.0), "skewed": ((2,), SKEW), "1+1 bits": ((1, 1), 0.0)}


@dataclass(frozen=True)
class ExpertOptions:
    """`shape` of MIXTURES; `only` these of KINDS, all where it is empty; `memory`: bytes of the
    budget; `files`: a folder that keeps the crystals (gigabytes) between runs. Raises UsageError
    for what does not exist.
    """

    only: tuple[str, ...] = ()
    memory: int = BUDGET
    files: Path | None = None
    shape: str = SHAPE

    def __post_init__(self) -> None:
        for what, given, known in (
            ("shape", (self.shape,), MIXTURES),
            ("kind of crystal", self.only, KINDS),
        ):
            for name in given:
                if name not in known:
                    raise UsageError(
                        f"There is no {what} {name!r}.", fix=f"Known: {', '.join(known)}."
                    )


def bench_experts(
    options: ExpertOptions | None = None, progress: ProgressListener = silent
) -> dict[str, Any]:
    """All rows of `h2q bench experts`. Raises ResourceError where the disk is full, or the budget
    too small.
    """
    options = options or ExpertOptions()
    kinds = [kind for kind in KINDS if not options.only or kind in options.only]
    rows: list[Row] = []
    document: dict[str, Any] = {
        "machine": machine(),
        "shape": options.shape,
        "model": mixture(options.shape).to_json(),
        "budget": options.memory,
        "skew": SKEW,
        "runs": {},
        "same_text": {},
    }
    neighbours = Neighbours()
    with ExitStack() as stack:
        folder = options.files or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for index, kind in enumerate(kinds):
            progress(Progress("bench experts", index, len(kinds)))
            crystal = _crystal(folder, options.shape, kind)
            runs = _runs(crystal, kind, options)
            document["runs"][kind] = {name: asdict(run) for name, run in runs.items()}
            document["same_text"][kind] = _same(runs)
            rows += _rows(kind, runs)
            if options.files is None:
                shutil.rmtree(crystal)
        progress(Progress("bench experts", len(kinds), len(kinds)))
    document["busy_elsewhere"] = neighbours.share()
    return {**document, "results": {row.name: row.document() for row in rows}}


def _runs(crystal: Path, kind: str, options: ExpertOptions) -> dict[str, ExpertRun]:
    """All in memory; within the budget, the system keeping what it read; the same from the disk.
    Where planes could come behind, they are pinned for texts to be the same, but in the last run.
    """
    trial, planes = options.shape == TRIAL, len(KINDS[kind][0])
    tokens, memory = (TRIAL_TOKENS, TRIAL_ROOM) if trial else (TOKENS, options.memory)
    found = {WHOLE: measured(crystal, 0, tokens, False, planes)}
    found["from the system's cache"] = measured(crystal, memory, tokens, False, planes)
    found["from the disk"] = measured(crystal, memory, tokens, True, planes)
    if planes > 1:
        found["from the disk, base planes first"] = measured(crystal, memory, tokens, True)
    return found


def _rows(kind: str, runs: dict[str, ExpertRun]) -> list[Row]:
    rows, whole = list[Row](), runs[WHOLE]
    for name, run in list(runs.items())[1:]:
        timing = Timing(run.per_token, run.per_token, run.tokens)
        row = partial(_row, f"{kind}, {name}", timing)
        share, most = run.experts / run.every, Target("ratio", most=1.0)
        rows += [
            row("resident set at most", run.peak, "B", run.peak / run.budget, "the budget", most),
            row("hit rate", 100 * run.hit_rate, "%", run.hit_rate / share, "the part that fits"),
            row("waiting", run.stall, "s/token", run.stall / run.per_token, "all its time"),
            row("decoding", 1 / run.per_token, "tokens/s", whole.per_token / run.per_token, WHOLE),
        ]
    return rows


def _row(
    title: str,
    timing: Timing,
    what: str,
    value: float,
    unit: str,
    ratio: float,
    to: str,
    target: Target | None = None,
) -> Row:
    name, path, threads = f"{title}: {what}", kernels.path(), kernels.threads()
    return Row(name, path, threads, timing, value, unit, ratio, to, target)


def _same(runs: dict[str, ExpertRun]) -> bool:
    """Whether all texts with pinned planes are alike."""
    return len({run.text for name, run in runs.items() if "base planes" not in name}) == 1


def _crystal(folder: Path, shape: str, kind: str) -> Path:
    bits, skew = KINDS[kind]
    target = folder / f"{shape}.{kind.replace(' ', '-')}.crystal"
    if not target.exists():
        pool, words = POOL if shape != TRIAL else TRIAL_POOL, TOKENIZER.read_text(encoding="utf-8")
        write_mixture(target, mixture(shape), bits, skew, tokenizer=words, pool=pool)
    return target
