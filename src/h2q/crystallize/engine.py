"""The model crystallization engine: a model goes in, a crystal and its certificate come out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from h2q import kernels
from h2q.core.architecture import parts, tensors
from h2q.core.errors import ResourceError, UsageError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.memory import keep_freed_memory, peak_rss_bytes, return_freed_memory
from h2q.crystal import Crystal, CrystalWriter, crystal_bytes, open_crystal
from h2q.crystallize.allocate import Judge
from h2q.crystallize.balance import BalancedSource
from h2q.crystallize.budget import parameters, require_possible
from h2q.crystallize.candidate import Candidate, plan_report
from h2q.crystallize.certificate import tensor_spectra, text_entry, versions
from h2q.crystallize.evaluate import compare
from h2q.crystallize.growth import Growth
from h2q.crystallize.journal import Journal, journal_key
from h2q.crystallize.keeping import (
    keep_sensitivity,
    keep_texts,
    kept_sensitivity,
    kept_texts,
)
from h2q.crystallize.options import Options
from h2q.crystallize.search import Search
from h2q.crystallize.sensitivity import measure_sensitivity
from h2q.crystallize.texts import Texts, fits_memory, gather_texts
from h2q.engine import load_crystal
from h2q.geometry.rotation import rotation
from h2q.sources import Source, open_source
from h2q.sources.fingerprint import fingerprint
from h2q.sources.precision import precision

Certificate = dict[str, Any]


class ModelCrystallizationEngine:
    """Grows a crystal from a source under Options. The source may be named instead, as open_source
    takes it: a folder, a .gguf file, `hf:org/name`, `ollama:name`. `origin`: what is known of where
    the source came from, for the certificate. Raises UsageError for options that are none, and
    what open_source raises.

    `grow` raises SourceError on a damaged source, TextError when the tokenizer does not fit,
    QualityError when the target cannot be held, ResourceError when the disk is full or memory runs
    out, Cancelled when stopped; the target is then untouched.
    """

    def __init__(
        self,
        source: Source | str | Path,
        options: Options | None = None,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(options, Options | None):
            raise UsageError(
                f"options must be h2q.crystallize.Options, not {type(options).__name__}.",
                fix="Write Options(ratio=16), say.",
            )
        if isinstance(source, str | Path):
            source = open_source(source)
        self.origin = dict(origin or {})
        self.original, self.source = source, BalancedSource(source)
        self.options = options or Options()
        self.seconds: dict[str, float] = {}

    def grow(
        self, target: str | Path, overwrite: bool = False, progress: ProgressListener = silent
    ) -> Certificate:
        """Write the crystal to the folder `target` and return its certificate, as it stands in
        certificate.json. What an earlier call towards `target` had finished is taken over.
        """
        try:
            return self._grow(Path(target), overwrite, progress)
        except MemoryError as error:
            raise ResourceError(
                "The machine has too little free memory to grow this crystal.",
                where=str(target),
                fix="Close other programs, or bring a shorter --calibration text; what is finished "
                "is kept for the next call.",
            ) from error

    def _grow(self, target: Path, overwrite: bool, progress: ProgressListener) -> Certificate:
        source, options = self.source, self.options
        require_possible(source.spec, options)
        keep_freed_memory(fits_memory(source.spec))
        with (
            CrystalWriter(target, source.spec, options.seed, overwrite=overwrite) as writer,
            Journal.beside(target, self._key()) as journal,
        ):
            with self._timed("texts"):
                texts = kept_texts(journal)
                if texts is None:
                    texts = gather_texts(self.original, options, progress)
                    keep_texts(journal, texts)
            with self._timed("measure sensitivity"):
                search = self._prepare(texts, journal, progress)
            with self._timed("grow"):
                found = search.run()
            with self._timed("write"):
                self._write(writer, found)
                staged = open_crystal(writer.stage())
            certificate = self._certify(staged, search, found, progress)
            writer.certificate(certificate)
            writer.commit()
            journal.close(remove=True)
        return certificate

    def _key(self) -> str:
        """Work under another source, other options or other code is not reused. What is done with
        a quality that cannot be held decides nothing before.
        """
        options = replace(self.options, best_effort=False)
        return journal_key([fingerprint(self.source), repr(options), kernels.path()])

    def _prepare(self, texts: Texts, journal: Journal, progress: ProgressListener) -> Search:
        source, options = self.source, self.options
        sizes = options.sizes(parameters(source.spec))
        rows = max(1, sizes.sensitivity_tokens // texts.calibration.shape[1])
        found = kept_sensitivity(journal)
        if found is None:
            calibration = texts.calibration[:rows]
            found = measure_sensitivity(source, calibration, options.seed, progress)
            keep_sensitivity(journal, found)
        judge = Judge(source.spec, found, options.embedding_identity, {})
        watched = [texts.judged, texts.measured]
        growth = Growth(
            source, options, progress, texts.calibration, found.head_moments, watched, journal
        )
        return Search(growth, judge, texts, progress)

    def _write(self, writer: CrystalWriter, found: Candidate) -> None:
        for tensor in tensors(self.source.spec):
            if not tensor.coded:
                writer.add_raw(tensor.name, np.asarray(self.source.tensor(tensor.name)))
        for name, height in found.heights.items():
            writer.add_planes(name, list(found.grown[name].planes[:height]))
        writer.rank(found.groups)
        writer.tokenizer(self.source.tokenizer_json())
        writer.chat_template(self.source.chat_template())

    def _certify(
        self, staged: Crystal, search: Search, found: Candidate, progress: ProgressListener
    ) -> Certificate:
        """Measure the files that were just written, read back from disk, at every prefix."""
        with self._timed("measure prefixes"):
            prefixes = self._prefixes(staged, search, progress)
        with self._timed("measure spectra"):
            layers = self._layers(found, search, progress)
        whole, count = prefixes[-1], parameters(self.source.spec)
        texts = search.texts
        keys = ("ratio_fp32", "quality", "quality_error", "kl_mean", "kl_p99", "top1_agreement")
        return {
            "format": 2,
            "source": {**self.origin, "precision": precision(self.original.files())},
            "original_bytes_fp32": 4 * count,
            "original_bytes_bf16": 2 * count,
            "crystal_bytes": whole["bytes"],
            "tokenizer_bytes": staged.tokenizer_path.stat().st_size,
            **{key: whole[key] for key in keys},
            "ratio_bf16": whole["ratio_fp32"] / 2,
            "bits_per_weight": 8 * whole["bytes"] / count,
            "text": text_entry(
                texts.measured_on, texts.measured, texts.calibrated_on, [texts.calibration]
            ),
            "prefixes": prefixes,
            "layers": layers,
            "growth": search.controller.to_json() if search.controller else {},
            "plan": {"attempts": search.attempts, **plan_report(found, search.judge_of_planes)},
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "peak_memory_bytes": peak_rss_bytes(),
            "versions": versions(),
            "kernel": kernels.path(),
        }

    def _prefixes(
        self, staged: Crystal, search: Search, progress: ProgressListener
    ) -> list[dict[str, Any]]:
        models = [load_crystal(staged, count) for count in range(len(staged.rank) + 1)]
        results = compare(
            search.truth(1),
            models,
            search.texts.measured,
            progress=lambda share: progress(Progress("measure prefixes", share, 1.0)),
        )
        original = 4 * parameters(self.source.spec)
        return [
            {
                "groups": count,
                "bytes": (size := crystal_bytes(staged, count)),
                "ratio_fp32": original / size,
                **result.to_json(),
            }
            for count, result in enumerate(results)
        ]

    def _layers(
        self, found: Candidate, search: Search, progress: ProgressListener
    ) -> list[dict[str, Any]]:
        matrices = [t for t in tensors(self.source.spec) if t.coded]
        heights, rows = found.heights, []
        for index, tensor in enumerate(matrices, 1):
            plain = np.ascontiguousarray(self.source.tensor(tensor.name), np.float32)
            turned = kernels.rotate(plain, rotation(self.options.seed, plain.shape[1]))
            for part in parts(tensor):
                grown, height = found.grown[part.name], heights[part.name]
                stack = grown.planes[:height]
                losses = search.judge_of_planes.measured(part, grown)
                shares = grown.costs.sum(axis=1) / max(float(grown.costs[0].sum()), 1e-30)
                rows.append(
                    {
                        "tensor": part.name,
                        "bits": [plane.spec.bits for plane in stack],
                        "base_error": float(shares[1]),
                        "error": float(shares[height]),
                        "mse": grown.mse,
                        "gain": losses[1] - losses[height],
                        "loss": losses[height],
                        **({"tokens": grown.tokens} if grown.tokens >= 0 else {}),
                        **tensor_spectra(
                            turned[part.rows], partial(kernels.gather_rows, stack), plain[part.rows]
                        ),
                    }
                )
            progress(Progress("measure spectra", index, len(matrices)))
        return rows

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        return_freed_memory()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
