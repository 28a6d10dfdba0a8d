"""Quality at equal size with and without the spectral stability controller.

    python benchmarks/stability.py --out benchmarks/results

Two models: the seed model, and a fragile one made of it, whose queries in one layer are `--sharper`
times longer, so that errors which reach its attention grow there. Of each one crystal is grown, 2+2
bits everywhere, and its refinement planes are ordered three times: by measured gain per byte alone;
with the controller's priorities; and with those of a stricter one, whose bound is the median, so
that about half of the layers exceed it. Each order is cut where the same share of the refinements'
bytes is spent, and measured on held-out books. A controller that finds no unstable layer leaves the
order as it is; that is said, not measured twice.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from command import run
from common_start import SEED_MODEL, CommonStart
from h2q.bench import machine
from h2q.cli.options import read_text
from h2q.core.architecture import coded
from h2q.core.events import silent
from h2q.crystallize import Options, SpectralStabilityController
from h2q.crystallize.allocate import Judge
from h2q.crystallize.balance import FloatArray
from h2q.crystallize.candidate import Candidate, measured_factors
from h2q.crystallize.evaluate import compare
from h2q.crystallize.remembered import Remembered
from h2q.crystallize.sampling import TokenArray, cut_text
from h2q.engine import Model, load_original
from h2q.sources import Source, open_source
from h2q.text import Tokenizer

FOLDER = Path(__file__).parent.parent / "build" / "quality"
VALID = Path(__file__).parents[2] / "shared" / "data" / "gutenberg-valid.txt.xz"
LENGTH, TOKENS = 512, 8192
SHARES = (0.25, 0.5, 0.75)  # of the bytes of the refinements
BITS = 4  # a weight, of every part
OPTIONS = Options(calibration_streams=16, calibration_length=512)


class Fragile:
    """`source` with the queries of one layer made longer: another model, not a twin."""

    def __init__(self, source: Source, layer: int, sharper: float) -> None:
        self.source, self.sharper = source, np.float32(sharper)
        self.name = f"model.layers.{layer}.self_attn.q_proj.weight"
        self.spec, self.files = source.spec, source.files
        self.tokenizer_json, self.layer = source.tokenizer_json, layer

    def chat_template(self) -> str:
        """Says what was changed, so that no journal takes this model for the source."""
        return f"queries of layer {self.layer} times {self.sharper}"

    def tensor(self, name: str) -> FloatArray:
        """As the source's, float32."""
        found = np.asarray(self.source.tensor(name), np.float32)
        return found * self.sharper if name == self.name else found


def strict(seen: SpectralStabilityController) -> SpectralStabilityController:
    """The same observations under the median as bound."""
    found = SpectralStabilityController(deviations=1e-9, margin=0.0)
    found.restore(seen.state())
    return found


def cut(whole: Candidate, share: float) -> Candidate:
    """As many planes of the order as take at most that share of the refinements' bytes."""
    base, count = whole.sizes[0], len(whole.steps)
    most = base + share * (whole.sizes[-1] - base)
    while count and whole.cut(count).sizes[-1] > most:
        count -= 1
    return whole.cut(count)


def compared(source: Source, folder: Path, books: TokenArray) -> dict[str, Any]:
    """One model's growth and the three orders of its planes."""
    start = CommonStart(source, folder, OPTIONS)
    growth, judge, seen = start.growth(), start.judge(), SpectralStabilityController()
    grown = growth.grow({part.name: BITS for part in coded(source.spec)}, seen)
    original, found = load_original(source), start.ranked(judge, grown)
    truth = Remembered(start.source, growth.watched[0], growth.hidden[0])
    factors = measured_factors(found, judge, truth, growth.watched[0], silent)
    better: Judge = replace(judge, factors=factors)
    layers = range(source.spec.num_hidden_layers)
    orders: dict[str, Any] = {}
    known: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for name, controller in (("without", None), ("with", seen), ("strict", strict(seen))):
        first = controller.priorities(layers) if controller else None
        whole = start.ranked(better, grown, first)
        order = tuple((step.key, step.level) for step in whole.steps)
        if order not in known:
            known[order] = [measured(original, cut(whole, share), books) for share in SHARES]
        orders[name] = {
            "bound": controller.bound() if controller else None,
            "unstable": controller.unstable() if controller else [],
            "priorities": first,
            "same_order_as_without": order == next(iter(known)),
            "at_shares": dict(zip(map(str, SHARES), known[order], strict=True)),
        }
    return {"growth": seen.to_json(), "orders": orders}


def measured(original: Model, found: Candidate, books: TokenArray) -> dict[str, float]:
    """Bytes and losses of a candidate."""
    result = compare(original, [found.model()], books)[0]
    return {"bytes": found.sizes[-1], "quality": result.quality, "kl_mean": result.kl_mean}


def show(models: dict[str, Any]) -> None:
    """A line per order and share."""
    for name, model in models.items():
        for order, found in model["orders"].items():
            same = order != "without" and found["same_order_as_without"]
            words = ", the order without it" if same else ""
            print(f"{name}, {order}: unstable {found['unstable'] or 'none'}{words}")
            for share, figures in found["at_shares"].items():
                print(
                    f"  {float(share):4.0%} of the refinements, {figures['bytes']:,.0f} bytes: "
                    f"quality {figures['quality']:.4f}, KL {figures['kl_mean']:.5f}"
                )


def document(options: argparse.Namespace) -> dict[str, Any]:
    """The seed's model and a fragile one."""
    source = open_source(SEED_MODEL)
    ids = Tokenizer.from_json(source.tokenizer_json()).encode(
        read_text(VALID)[: 16 * TOKENS], special=False
    )
    books = cut_text(ids, source.spec, LENGTH, TOKENS)
    fragile = Fragile(source, options.layer, options.sharper)
    models = {
        name: compared(model, options.folder, books)
        for name, model in (("seed", source), ("fragile", fragile))
    }
    show(models)
    return {
        "machine": machine(),
        "books_tokens": int(books[:, 1:].size),
        "fragile": {"layer": options.layer, "sharper": options.sharper},
        "models": models,
    }


def fragility(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--layer", type=int, default=3, help="whose queries are made longer")
    parser.add_argument("--sharper", type=float, default=4.0)


def main() -> int:
    """The command; returns its exit code."""
    return run("stability", __doc__.split("\n")[0], FOLDER, document, fragility)


if __name__ == "__main__":
    sys.exit(main())
