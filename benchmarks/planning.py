"""Do the forecasts that plans are made by rank plans as measuring does?

Random plans of about equal bytes, one to four bits for every part, each grown and measured on the
judged text. Plans are drawn uniformly and kept when their bytes fit, nothing else: their spread is
what random plans have. Two rankings are held against the measured divergence: what is foretold
before anything is coded, and the measured proxy losses of the parts that were coded.

    python benchmarks/planning.py --out benchmarks/results

What was grown is noted in `--folder`, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from command import run
from common_start import SEED_MODEL, CommonStart
from h2q.bench import machine, write_result
from h2q.core.architecture import coded
from h2q.core.specs import ModelSpec
from h2q.crystallize import SpectralStabilityController
from h2q.crystallize.allocate import TOWERS, Judge, foretold_loss, stack_bytes
from h2q.crystallize.growth import Growth
from h2q.crystallize.journal import code_fingerprint
from h2q.crystallize.remembered import Remembered
from h2q.sources import open_source

FOLDER = Path(__file__).parent.parent / "build" / "quality"
LEVELS = (1, 2, 3, 4)  # bits a weight of a random plan's parts
SPREAD = 0.02  # of bytes, between the smallest and the largest plan
SEED = 20  # of the plans
TARGET = 0.8

Bits = dict[str, int]


@dataclass(frozen=True)
class Outcome:
    """A plan's bytes of planes, its losses in nats per token: foretold, by the proxies of its coded
    parts, and measured on the judged text.
    """

    bytes: int
    foretold: float
    proxy: float
    kl_mean: float


def plan_bytes(spec: ModelSpec, bits: Bits) -> int:
    """Bytes of all planes."""
    return sum(stack_bytes(part, bits[part.name]) for part in coded(spec))


def random_plans(spec: ModelSpec, seed: int = SEED) -> Iterator[Bits]:
    """Uniform draws whose bytes are within SPREAD of each other, around a draw's expected bytes."""
    random, todo = np.random.default_rng(seed), coded(spec)
    middle = sum(stack_bytes(p, level) for p in todo for level in LEVELS) / len(LEVELS)
    while True:
        draws = random.choice(LEVELS, len(todo))
        bits = {part.name: int(level) for part, level in zip(todo, draws, strict=True)}
        if abs(plan_bytes(spec, bits) - middle) <= SPREAD / 2 * middle:
            yield bits


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation of two lists of different numbers."""

    def ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
        return np.argsort(np.argsort(values)).astype(np.float64)

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def outcome(start: CommonStart, growth: Growth, judge: Judge, bits: Bits) -> Outcome:
    """Grow a plan and measure it."""
    spec = start.source.spec
    grown = growth.grow(bits, SpectralStabilityController())
    whole = start.ranked(judge, grown)
    truth = Remembered(start.source, start.texts.judged, growth.hidden[0])
    return Outcome(
        bytes=plan_bytes(spec, bits),
        foretold=foretold_loss(judge, bits),
        proxy=sum(judge.measured(part, grown[part.name])[-1] for part in coded(spec)),
        kl_mean=whole.judged(truth, start.texts.judged).kl_mean,
    )


def outcomes(start: CommonStart, plans: Sequence[Bits], folder: Path) -> Iterator[Outcome]:
    """Of every plan; those noted in the folder by this very code are not grown again."""
    note = folder / f"plans-{code_fingerprint()[:12]}.json"
    known: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {}
    growth, judge = start.growth(), start.judge()
    for index, bits in enumerate(plans, 1):
        name = "".join(map(str, bits.values()))
        if name not in known:
            began = time.monotonic()
            known[name] = asdict(outcome(start, growth, judge, bits))
            write_result(note, known)
            print(f"{index}: {known[name]}, {time.monotonic() - began:.0f} s", file=sys.stderr)
        yield Outcome(**known[name])


def document(start: CommonStart, plans: Sequence[Bits], found: Sequence[Outcome]) -> dict[str, Any]:
    """The result."""
    measured = [one.kl_mean for one in found]
    figures = {
        name: {
            "spearman": spearman([getattr(one, name) for one in found], measured),
            "pearson_of_logs": float(
                np.corrcoef(np.log([getattr(one, name) for one in found]), np.log(measured))[0, 1]
            ),
            "target_least": TARGET,
        }
        for name in ("foretold", "proxy")
    }
    return {
        "machine": machine(),
        "seed": SEED,
        "levels": {level: TOWERS[level] for level in LEVELS},
        "judged_tokens": int(start.texts.judged[:, 1:].size),
        "correlations": figures,
        "plans": [{"bits": bits, **asdict(one)} for bits, one in zip(plans, found, strict=True)],
    }


def show(result: dict[str, Any]) -> None:
    """Tables on stdout."""
    print(f"{'bytes':>10} {'foretold':>9} {'proxy':>9} {'measured':>9}")
    for plan in sorted(result["plans"], key=lambda plan: plan["kl_mean"]):
        print(
            f"{plan['bytes']:>10,} {plan['foretold']:>9.4f} {plan['proxy']:>9.4f} "
            f"{plan['kl_mean']:>9.4f}"
        )
    for name, figures in result["correlations"].items():
        words = "holds" if figures["spearman"] >= TARGET else f"misses {TARGET}"
        print(f"{name} against measured: Spearman {figures['spearman']:.3f}, {words}")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Plans drawn, and what came of each."""
    start = CommonStart(open_source(SEED_MODEL), options.folder)
    plans = list(islice(random_plans(start.source.spec), options.plans))
    result = document(start, plans, list(outcomes(start, plans, options.folder)))
    show(result)
    return result


def number_of_plans(parser: argparse.ArgumentParser) -> None:
    """The option of this command."""
    parser.add_argument("--plans", type=int, default=20)


def main() -> int:
    """The command; returns its exit code."""
    return run(
        "planning",
        __doc__,
        FOLDER,
        measured,
        number_of_plans,
    )


if __name__ == "__main__":
    sys.exit(main())
