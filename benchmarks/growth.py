"""Seconds by stage and peak memory of growing a large model: random weights of the 1.1 B shape.
Processor seconds stand beside those of the clock, for machines that are busy with something else.

    python benchmarks/growth.py --out benchmarks/results
    python benchmarks/growth.py --layers 2 --vocabulary 4096    # a look in minutes

The model is written to a temporary folder (2.3 GB at full size) and grown in a process of its own
through the public engine: 8,192 calibration tokens, 2.5 bits a weight, ranking and certificate
included. Quality says nothing here: the weights are random.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from h2q.bench import machine, slug, write_result
from h2q.core.architecture import tensors
from h2q.core.errors import H2QError
from h2q.core.events import Progress
from h2q.core.memory import peak_rss_bytes
from h2q.core.specs import ModelSpec
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.crystallize.budget import parameters
from h2q.runtime.process import rss_parts
from h2q.sources import open_source
from random_llama import SPEC, write_random_llama

GOAL_SECONDS, GOAL_BYTES = 900, 6_000_000_000
EVERY = 0.05  # seconds between looks at memory


def layer_bound(spec: ModelSpec) -> int:
    """1.5 times (a layer in float32 and its moments) + 1 GB: what growing may take however many
    layers there are.
    """
    layer = [t for t in tensors(spec) if t.coded and ".layers.0." in t.name]
    widths = {tensor.reads: tensor.shape[1] for tensor in layer}
    weights = sum(math.prod(tensor.shape) for tensor in layer)
    return int(1.5 * 4 * (weights + sum(width**2 for width in widths.values())) + 1e9)


def grown(folder: Path, bits: float) -> dict[str, Any]:
    """Grow the model in `folder`; what it took."""
    source = open_source(folder)
    options = Options(bits=bits)
    sizes, count = options.sizes(parameters(source.spec)), parameters(source.spec)
    began, worked, over = time.perf_counter(), time.process_time(), threading.Event()
    stage, peaks = ["open"], dict[str, int]()

    def look() -> None:
        while not over.wait(EVERY):
            now = stage[-1]
            peaks[now] = max(peaks.get(now, 0), rss_parts()[0])

    def hear(progress: Progress) -> None:
        stage[-1] = progress.stage

    threading.Thread(target=look, daemon=True).start()
    engine = ModelCrystallizationEngine(source, options)
    certificate = engine.grow(folder / "grown.crystal", progress=hear)
    over.set()
    return {
        "parameters": count,
        "layers": source.spec.num_hidden_layers,
        "vocabulary": source.spec.vocab_size,
        "calibration_tokens": sizes.calibration_streams * sizes.calibration_length,
        "bits_per_weight": certificate["bits_per_weight"],
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "stages": {name: round(value, 1) for name, value in engine.seconds.items()},
        "peak_memory_bytes": peak_rss_bytes(),
        "peak_memory_bytes_by_stage": peaks,  # without mapped files
        "layer_bound_bytes": layer_bound(source.spec),
        "quality": certificate["quality"],
    }


def measured(layers: int, vocabulary: int, bits: float) -> dict[str, Any]:
    """The result document."""
    spec = replace(SPEC, num_hidden_layers=layers, vocab_size=vocabulary)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        write_random_llama(folder, spec)
        command = [sys.executable, __file__, "--grow", str(folder), "--bits", str(bits)]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    goals = {"seconds": GOAL_SECONDS, "peak_memory_bytes": GOAL_BYTES}
    return {"machine": machine(), "goals": goals, "growth": json.loads(found.stdout)}


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=SPEC.num_hidden_layers)
    parser.add_argument("--vocabulary", type=int, default=SPEC.vocab_size, help="at least 4096")
    parser.add_argument("--bits", type=float, default=2.5)
    parser.add_argument("--out", type=Path, help="a folder such as benchmarks/results")
    parser.add_argument("--grow", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.grow is not None:
            print(json.dumps(grown(options.grow, options.bits)))
            return 0
        document = measured(options.layers, options.vocabulary, options.bits)
    except H2QError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except subprocess.CalledProcessError as error:
        return error.returncode
    print(json.dumps(document, indent=1))
    if options.out is not None:
        write_result(options.out / f"growth-{slug()}.json", document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
