"""Choices that growing makes, each against what it replaces at equal bytes of planes:

- the plan against a uniform one: every layer two bits a weight, the embedding 2+1;
- the order of planes with the stability controller's priorities against the order without;
- text sampled from the model against a real text of the training's kind, as calibration.

    python benchmarks/choices.py --out benchmarks/results

All are measured on held-out books, and on text sampled from the original.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from command import run
from common_start import SEED_MODEL, CommonStart
from h2q.bench import machine
from h2q.cli.options import read_text
from h2q.core.architecture import EMBEDDING, coded
from h2q.core.events import silent
from h2q.crystallize import Options, SpectralStabilityController, compare
from h2q.crystallize.allocate import Judge, plan_for_bytes
from h2q.crystallize.candidate import Candidate, measured_factors
from h2q.crystallize.growth import Growth
from h2q.crystallize.remembered import Remembered
from h2q.crystallize.sampling import TokenArray, cut_text
from h2q.engine import load_original
from h2q.sources import Source, open_source
from h2q.text import Tokenizer
from planning import FOLDER, Bits, plan_bytes

DATA = Path(__file__).parents[2] / "shared" / "data"
TRAIN, VALID = DATA / "gutenberg-train-100mb.txt.xz", DATA / "gutenberg-valid.txt.xz"
CALIBRATION_BYTES, LENGTH, TOKENS = 200_000, 512, 16_384
SHARES = (0.25, 0.5, 0.75)  # of the bytes of a crystal's refinements


def uniform(source: Source) -> Bits:
    """Two bits everywhere, three for the embedding."""
    todo = coded(source.spec)
    return {part.name: 3 if part.tensor.name == EMBEDDING else 2 for part in todo}


class Bench:
    """Grows plans of one source and measures them on the same texts. Planes and norms come from the
    balanced source of `start`, the original is as it was found.
    """

    def __init__(self, start: CommonStart, held_out: TokenArray) -> None:
        self.start, self.original = start, load_original(start.original)
        self.texts = {"held-out books": held_out, "sampled text": start.texts.measured}

    def measure(self, growth: Growth, judge: Judge, bits: Bits) -> Candidate:
        """Grow a plan; the controller that watched is kept."""
        self.controller = SpectralStabilityController()
        return self.start.ranked(judge, growth.grow(bits, self.controller))

    def result(self, name: str, found: Candidate) -> dict[str, Any]:
        """Bytes, plan, and results by text."""
        model = found.model()
        results = {
            text: compare(self.original, [model], tokens)[0] for text, tokens in self.texts.items()
        }
        print(f"{name}: {found.sizes[-1]:,} bytes")
        for text, result in results.items():
            print(f"  {text}: KL {result.kl_mean:.4f}, quality {result.quality:.4f}", flush=True)
        return {
            "bytes": found.sizes[-1],
            "bits": {
                part: [plane.spec.bits for plane in found.grown[part].planes[:height]]
                for part, height in found.heights.items()
            },
            "texts": {text: result.to_json() for text, result in results.items()},
        }

    def orders(self, growth: Growth, judge: Judge, found: Candidate) -> dict[str, Any]:
        """Prefixes of one growth by shares of its refinements, ranked with priorities and without;
        the same where the controller found no unstable layer.
        """
        source, controller = self.start.source, self.controller
        priorities = controller.priorities(range(source.spec.num_hidden_layers))
        truth = Remembered(source, growth.watched[0], growth.hidden[0])
        factors = measured_factors(found, judge, truth, growth.watched[0], silent)
        better = replace(judge, factors=factors)
        out: dict[str, Any] = {"growth": controller.to_json(), "priorities": priorities}
        for name, first in (("without", None), ("with", priorities)):
            whole = self.start.ranked(better, found.grown, first)
            base, full = whole.sizes[0], whole.sizes[-1]
            for share in SHARES:
                most, count = base + share * (full - base), len(whole.steps)
                while count and whole.cut(count).sizes[-1] > most:
                    count -= 1
                label = f"{share:g} of the refinements, {name} priorities"
                out[label] = self.result(label, whole.cut(count))
            if controller.unstable() == []:
                break
        return out


def measured(folder: Path) -> dict[str, Any]:
    """The result document."""
    source = open_source(SEED_MODEL)
    tokenizer = Tokenizer.from_json(source.tokenizer_json())
    ids = tokenizer.encode(read_text(VALID)[: 16 * TOKENS], special=False)
    start = CommonStart(source, folder)
    bench = Bench(start, cut_text(ids, source.spec, LENGTH, TOKENS))
    judge, growth, out = start.judge(), start.growth(), {}
    budget = plan_bytes(source.spec, uniform(source))
    out["uniform"] = bench.result("uniform", bench.measure(growth, judge, uniform(source)))
    planned = bench.measure(growth, judge, plan_for_bytes(judge, budget))
    out["planned"] = bench.result("planned", planned)
    out["orders"] = bench.orders(growth, judge, planned)
    books = read_text(TRAIN).encode()[:CALIBRATION_BYTES].decode(errors="ignore")
    other = CommonStart(source, folder, Options(calibration=books))
    bits = plan_for_bytes(other.judge(), budget)
    on_books = bench.measure(other.growth(), other.judge(), bits)
    out["calibrated on books"] = bench.result("calibrated on books", on_books)
    out["calibrated on books"]["calibration_tokens"] = int(other.texts.calibration.size)
    return {"machine": machine(), "budget": budget, "choices": out}


def main() -> int:
    """The command; returns its exit code."""
    return run("choices", __doc__, FOLDER, lambda options: measured(options.folder))


if __name__ == "__main__":
    sys.exit(main())
