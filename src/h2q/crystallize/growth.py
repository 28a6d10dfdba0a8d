"""The steps of growing, each on real numbers: texts, moments, base planes, refinements, measured
gains, certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from h2q import kernels
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.architecture import TensorSpec, tensors
from h2q.core.errors import SourceError
from h2q.core.events import Progress, ProgressListener
from h2q.core.specs import PlaneSpec
from h2q.crystallize.evaluate import batches, log_probabilities, mean_divergence
from h2q.crystallize.moments import FloatArray, MomentObserver, Moments, TokenArray, observe
from h2q.crystallize.options import Options
from h2q.crystallize.plan import Candidate
from h2q.crystallize.sampling import cut_text, sample_text
from h2q.crystallize.towers import Encoded, Matrix, add_plane
from h2q.engine import Model
from h2q.engine.load import PlaneWeights, build, exchange, load_original
from h2q.geometry.rotation import rotation
from h2q.sources import Source
from h2q.text import Tokenizer

BASE_BITS = 2
REFINE_BITS = (1, 2)
# Each stage of sampling has its own seeds; those of the certificate are never used for anything
# else.
CALIBRATION_SEED, RANK_SEED, MEASURE_SEED = 1_000, 2_000, 3_000
CALIBRATION_TEMPERATURES = (1.0, 0.8, 1.0)


@dataclass
class Growth:
    """State of one growing crystal. Methods are called in the order in which they are written."""

    source: Source
    options: Options
    listener: ProgressListener
    original: Model = field(init=False)
    moments: dict[str, Moments] = field(init=False, default_factory=dict)
    base: dict[str, Encoded] = field(init=False, default_factory=dict)
    refined: dict[tuple[str, int], Encoded] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.original = load_original(self.source)
        self.coded = [t for t in tensors(self.source.spec) if t.kind != "norm"]

    def calibration_tokens(self, tokenizer: Tokenizer) -> list[TokenArray]:
        """The person's text cut into rows, or texts sampled from the original at several
        temperatures and seeds.
        """
        options, stage = self.options, "sample calibration text"
        if options.calibration is not None:
            limit = options.calibration_streams * options.calibration_length
            ids = tokenizer.encode(options.calibration, special=False)
            return [cut_text(ids, self.source.spec, options.calibration_length, limit)]
        share = max(1, options.calibration_streams // len(CALIBRATION_TEMPERATURES))
        return [
            sample_text(
                self.original,
                share,
                options.calibration_length,
                seed=CALIBRATION_SEED + options.seed + index,
                temperature=temperature,
                progress=self._part(stage, index, len(CALIBRATION_TEMPERATURES)),
            )
            for index, temperature in enumerate(CALIBRATION_TEMPERATURES)
        ]

    def collect_moments(self, texts: list[TokenArray]) -> None:
        """Second moments of every input, from the engine's own forward pass."""
        observer = MomentObserver(self.options.seed)
        rows = [row[None] for text in texts for row in text]
        for index, row in enumerate(rows):
            observe(self.original, row, observer)
            self.listener(Progress("collect moments", index + 1, len(rows), "texts"))
        self.moments = observer.moments()

    def encode_base(self) -> None:
        """The base plane of every matrix."""
        total = sum(math.prod(t.shape) for t in self.coded)
        done = 0
        for tensor in self.coded:
            report = self._weights("encode base planes", done, math.prod(tensor.shape), total)
            self.base[tensor.name] = add_plane(
                self.matrix(tensor),
                None,
                BASE_BITS,
                self.options.base_damping,
                progress=report,
            )
            done += math.prod(tensor.shape)

    def encode_refinements(self) -> None:
        """Every candidate refinement of every matrix, on what its base leaves over."""
        total = sum(math.prod(t.shape) for t in self.coded) * len(REFINE_BITS)
        done = 0
        for tensor in self.coded:
            matrix = self.matrix(tensor)
            for bits in REFINE_BITS:
                size = math.prod(tensor.shape)
                report = self._weights("encode refinements", done, size, total)
                self.refined[tensor.name, bits] = add_plane(
                    matrix,
                    self.base[tensor.name],
                    bits,
                    self.options.refine_damping,
                    progress=report,
                )
                done += size

    def measure_gains(self) -> list[Candidate]:
        """The drop of the mean KL divergence that each refinement brings by itself on top of the
        base.
        """
        tokens = sample_text(
            self.original,
            self.options.rank_streams,
            self.options.measure_length,
            seed=RANK_SEED + self.options.seed,
            progress=self._part("sample ranking text", 0, 1),
        )
        model = self.crystal_model()
        truth = [(batch, log_probabilities(self.original, batch)) for batch in batches(tokens)]
        plain = mean_divergence(truth, model)
        out = []
        for index, ((name, bits), refinement) in enumerate(self.refined.items()):
            base = self.base[name].plane
            exchange(model, {name: (base, refinement.plane)})
            gain = plain - mean_divergence(truth, model)
            exchange(model, {name: (base,)})
            cost = PanelLayout.of(PlaneSpec(bits, base.spec.rows, base.spec.cols)).byte_count
            out.append(Candidate(name, bits, cost, gain))
            self.listener(Progress("measure gains", index + 1, len(self.refined), "refinements"))
        return out

    def measure_tokens(self) -> TokenArray:
        """Text for the certificate: sampled at temperature 1 from seeds that nothing else uses."""
        return sample_text(
            self.original,
            self.options.measure_streams,
            self.options.measure_length,
            seed=MEASURE_SEED + self.options.seed,
            progress=self._part("sample measuring text", 0, 1),
        )

    def crystal_model(self) -> Model:
        """A model of the base planes alone, to exchange planes in."""

        def planes(name: str) -> tuple[Plane, ...]:
            return (self.base[name].plane,)

        return build(self.source.spec, PlaneWeights(planes, self._norm, self.options.seed))

    def matrix(self, tensor: TensorSpec) -> Matrix:
        """W R^T and the moments of what it reads. Raises SourceError when a weight is not
        finite.
        """
        weights = np.ascontiguousarray(self.source.tensor(tensor.name), np.float32)
        if not np.isfinite(weights).all():
            raise SourceError("The tensor holds a value that is not finite.", where=tensor.name)
        turned = kernels.rotate(weights, rotation(self.options.seed, weights.shape[1]))
        return Matrix(tensor.name, turned, self._moments(tensor))

    def _norm(self, name: str) -> FloatArray:
        return np.ascontiguousarray(self.source.tensor(name), np.float32)

    def _moments(self, tensor: TensorSpec) -> Moments:
        """Moments of what the matrix reads; an embedding is read row by row, so every column counts
        the same.
        """
        width = tensor.shape[1]
        if tensor.kind != "embedding":
            return self.moments[tensor.reads]
        if not self.source.spec.tie_word_embeddings:
            return np.eye(width)
        head = self.moments[tensor.reads]
        strength = self.options.embedding_identity * float(np.trace(head)) / width
        return np.asarray(head + strength * np.eye(width))

    def _part(self, stage: str, index: int, count: int) -> Callable[[float], None]:
        return lambda share: self.listener(Progress(stage, index + share, count))

    def _weights(self, stage: str, done: int, size: int, total: int) -> Callable[[float], bool]:
        def report(share: float) -> bool:
            self.listener(Progress(stage, done + share * size, total, "weights"))
            return True

        return report
