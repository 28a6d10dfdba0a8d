"""The model crystallization engine: a model goes in, a crystal and its certificate come out."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import h2q
from h2q import kernels
from h2q.core.architecture import tensors
from h2q.core.errors import QualityError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.units import format_bytes
from h2q.crystal import CrystalWriter, crystal_bytes, open_crystal
from h2q.crystallize.evaluate import compare
from h2q.crystallize.growth import Growth
from h2q.crystallize.options import Options
from h2q.crystallize.plan import Candidate, choose, groups
from h2q.engine import load_crystal
from h2q.sources import Source
from h2q.text import Tokenizer

MANIFEST_RESERVE = 6 << 10  # crystal.json and the headers of the shards, for planning
SHARD_RESERVE = 2 << 10

Certificate = dict[str, Any]


class ModelCrystallizationEngine:
    """Grows a crystal from a source under Options.

    `grow` raises SourceError on a damaged source, TextError when the tokenizer does not fit,
    QualityError when the ratio cannot be held, ResourceError when the disk is full, Cancelled when
    stopped; the target is then untouched.
    """

    def __init__(self, source: Source, options: Options | None = None) -> None:
        self.source, self.options = source, options or Options()
        self.seconds: dict[str, float] = {}

    def grow(
        self, target: Path, overwrite: bool = False, progress: ProgressListener = silent
    ) -> Certificate:
        """Write the crystal to `target` and return its certificate, as it stands in
        certificate.json.
        """
        source, options = self.source, self.options
        tokenizer = Tokenizer.from_json(source.tokenizer_json())
        tokenizer.require_fit(source.spec.vocab_size)
        with CrystalWriter(target, source.spec, options.seed, overwrite=overwrite) as writer:
            growth = Growth(source, options, progress)
            with self._timed("calibrate"):
                growth.collect_moments(growth.calibration_tokens(tokenizer))
            with self._timed("encode base"):
                growth.encode_base()
            self._require_possible(growth)
            with self._timed("encode refinements"):
                growth.encode_refinements()
            with self._timed("rank"):
                ranked = groups(
                    choose(growth.measure_gains(), self._budget(growth)), options.groups
                )
            self._write(writer, growth, ranked)
            with self._timed("measure"):
                certificate = self._certify(writer, growth, ranked, progress)
            writer.certificate(certificate)
            writer.commit()
        return certificate

    def _budget(self, growth: Growth) -> int:
        """Bytes left for refinements under the wanted ratio."""
        return int(self._original_bytes() / self.options.ratio) - self._base_bytes(growth)

    def _base_bytes(self, growth: Growth) -> int:
        norms = sum(4 * math.prod(t.shape) for t in tensors(self.source.spec) if t.kind == "norm")
        planes = sum(encoded.plane.byte_count for encoded in growth.base.values())
        reserve = MANIFEST_RESERVE + SHARD_RESERVE * (1 + self.options.groups)
        return norms + planes + reserve

    def _require_possible(self, growth: Growth) -> None:
        best = self._original_bytes() / self._base_bytes(growth)
        if best < self.options.ratio:
            raise QualityError(
                f"A ratio of {self.options.ratio:g} cannot be held: the base planes alone take "
                f"{format_bytes(self._base_bytes(growth))}, a ratio of {best:.2f}.",
                fix=f"Ask for --ratio {math.floor(best * 10) / 10:g} or less.",
            )

    def _original_bytes(self) -> int:
        return 4 * sum(math.prod(t.shape) for t in tensors(self.source.spec))

    def _write(self, writer: CrystalWriter, growth: Growth, ranked: list[list[Candidate]]) -> None:
        refinements = {c.tensor: c for group in ranked for c in group}
        for tensor in tensors(self.source.spec):
            if tensor.kind == "norm":
                writer.add_raw(tensor.name, np.asarray(self.source.tensor(tensor.name)))
                continue
            planes = [growth.base[tensor.name].plane]
            if choice := refinements.get(tensor.name):
                planes.append(growth.refined[tensor.name, choice.bits].plane)
            writer.add_planes(tensor.name, planes)
        writer.rank([[(c.tensor, 1) for c in group] for group in ranked])
        writer.tokenizer(self.source.tokenizer_json())

    def _certify(
        self,
        writer: CrystalWriter,
        growth: Growth,
        ranked: list[list[Candidate]],
        progress: ProgressListener,
    ) -> Certificate:
        """Measure the files that were just written, read back from disk, at every prefix."""
        tokens = growth.measure_tokens()
        staged = open_crystal(writer.stage())
        models = [load_crystal(staged, count) for count in range(len(ranked) + 1)]
        results = compare(
            growth.original,
            models,
            tokens,
            progress=lambda share: progress(Progress("measure quality", share, 1.0)),
        )
        original = self._original_bytes()
        prefixes = [
            {
                "groups": count,
                "bytes": crystal_bytes(staged, count),
                "ratio_fp32": original / crystal_bytes(staged, count),
                **result.to_json(),
            }
            for count, result in enumerate(results)
        ]
        whole = prefixes[-1]
        keys = ("ratio_fp32", "quality", "kl_mean", "top1_agreement")
        return {
            "format": 1,
            "original_bytes_fp32": original,
            "original_bytes_bf16": original // 2,
            "crystal_bytes": whole["bytes"],
            "tokenizer_bytes": staged.tokenizer_path.stat().st_size,
            **{key: whole[key] for key in keys},
            "ratio_bf16": original / 2 / whole["bytes"],
            "text": {
                "measured_on": "sampled from the original at temperature 1",
                "tokens": results[-1].tokens,
                "calibrated_on": "a given text" if self.options.calibration else "sampled text",
            },
            "prefixes": prefixes,
            "layers": self._layers(growth, ranked),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "versions": {
                "h2q": h2q.__version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
            },
            "kernel": kernels.path(),
        }

    def _layers(self, growth: Growth, ranked: list[list[Candidate]]) -> list[dict[str, Any]]:
        refinements = {c.tensor: c for group in ranked for c in group}
        rows = []
        for name, base in growth.base.items():
            choice = refinements.get(name)
            final = growth.refined[name, choice.bits] if choice else base
            rows.append(
                {
                    "tensor": name,
                    "bits": [base.plane.spec.bits, *([choice.bits] if choice else [])],
                    "base_error": base.error,
                    "error": final.error,
                    "mse": final.mse,
                    "gain": choice.gain if choice else None,
                }
            )
        return rows

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began
