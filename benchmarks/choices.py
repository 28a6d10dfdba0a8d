"""Choices that growing makes, each against what it replaces at equal bytes of planes:

- the plan against a uniform one: every layer two bits a weight, the embedding 2+1;
- priorities of the stability controller against none: parts of unstable layers count for more;
- text sampled from the model against a real text of the training's kind, as calibration.

    python benchmarks/choices.py --out benchmarks/results

All are measured on held-out books, and on text sampled from the original.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common_start import CommonStart
from h2q.bench import machine, slug, write_result
from h2q.cli.options import read_text, source_place
from h2q.core.architecture import EMBEDDING, coded
from h2q.core.errors import H2QError
from h2q.crystallize import Options, SpectralStabilityController, compare
from h2q.crystallize.allocate import Judge, plan_for_bytes
from h2q.crystallize.candidate import ranked
from h2q.crystallize.growth import Growth
from h2q.crystallize.sampling import TokenArray, cut_text
from h2q.engine import load_original
from h2q.sources import Source, open_source
from h2q.text import Tokenizer
from planning import FOLDER, Bits, plan_bytes

DATA = Path(__file__).parents[2] / "shared" / "data"
TRAIN, VALID = DATA / "gutenberg-train-100mb.txt.xz", DATA / "gutenberg-valid.txt.xz"
CALIBRATION_BYTES, LENGTH, TOKENS = 200_000, 512, 16_384


def uniform(source: Source) -> Bits:
    """Two bits everywhere, three for the embedding."""
    todo = coded(source.spec)
    return {part.name: 3 if part.tensor.name == EMBEDDING else 2 for part in todo}


def prioritized(judge: Judge, controller: SpectralStabilityController) -> Judge:
    """Losses in unstable layers count for more, by the controller's priorities."""
    layers = range(judge.spec.num_hidden_layers)
    by_prefix = {f"model.layers.{i}.": p for i, p in controller.priorities(layers).items()}
    rows = {
        name: found * next((p for prefix, p in by_prefix.items() if name.startswith(prefix)), 1.0)
        for name, found in judge.sensitivity.rows.items()
    }
    return replace(judge, sensitivity=replace(judge.sensitivity, rows=rows))


class Bench:
    """Grows plans of one source and measures them on the same texts."""

    def __init__(self, source: Source, start: CommonStart, held_out: TokenArray) -> None:
        self.source, self.original = source, load_original(source)
        self.texts = {"held-out books": held_out, "sampled text": start.texts.measured}

    def measure(
        self, growth: Growth, judge: Judge, bits: Bits, controller: SpectralStabilityController
    ) -> dict[str, Any]:
        """Bytes, plan, and results by text; the controller sees the growth."""
        options = growth.options
        grown = growth.grow(bits, controller.observe)
        model = ranked(self.source, options.seed, judge, grown, options.groups).model()
        results = {
            name: compare(self.original, [model], tokens)[0] for name, tokens in self.texts.items()
        }
        for name, result in results.items():
            print(f"  {name}: KL {result.kl_mean:.4f}, quality {result.quality:.4f}", flush=True)
        return {
            "bytes_of_planes": plan_bytes(self.source.spec, bits),
            "bits": bits,
            "growth": controller.to_json(),
            "texts": {name: result.to_json() for name, result in results.items()},
        }


def measured(folder: Path) -> dict[str, Any]:
    """The result document."""
    source = open_source(source_place("seed"))
    tokenizer = Tokenizer.from_json(source.tokenizer_json())
    ids = tokenizer.encode(read_text(VALID)[: 16 * TOKENS], special=False)
    start = CommonStart(source, folder)
    bench = Bench(source, start, cut_text(ids, source.spec, LENGTH, TOKENS))
    judge, growth, out = start.judge(), start.growth(), {}
    plain = uniform(source)
    budget = plan_bytes(source.spec, plain)
    planned = plan_for_bytes(judge, budget)
    controller = SpectralStabilityController()
    print("uniform plan", flush=True)
    out["uniform"] = bench.measure(growth, judge, plain, SpectralStabilityController())
    print("planned", flush=True)
    out["planned"] = bench.measure(growth, judge, planned, controller)
    favoured = plan_for_bytes(prioritized(judge, controller), budget)
    print(f"priorities; unstable layers: {controller.unstable()}", flush=True)
    if favoured == planned:
        out["priorities"] = {"same_plan": True, "unstable": controller.unstable()}
    else:
        out["priorities"] = bench.measure(
            growth, judge, favoured, SpectralStabilityController()
        ) | {"same_plan": False, "unstable": controller.unstable()}
    print("calibrated on books", flush=True)
    books = read_text(TRAIN).encode()[:CALIBRATION_BYTES].decode(errors="ignore")
    other = CommonStart(source, folder, Options(calibration=books))
    found = plan_for_bytes(other.judge(), budget)
    out["calibrated on books"] = bench.measure(
        other.growth(), other.judge(), found, SpectralStabilityController()
    ) | {"calibration_tokens": int(np.prod(other.texts.calibration.shape))}
    return {"machine": machine(), "budget": budget, "choices": out}


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, help="a folder such as benchmarks/results")
    options = parser.parse_args()
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        document = measured(options.folder)
        if options.out is not None:
            write_result(options.out / f"choices-{slug()}.json", document)
    except H2QError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
