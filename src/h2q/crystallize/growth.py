"""Growing every part of a crystal under a plan, layer by layer: two streams of text run side by
side, the original's and the crystal's, and each layer is coded for what reaches it.

At no time is more than one layer of the original in memory, so the model may be larger than it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from h2q import kernels
from h2q.core.architecture import (
    EMBEDDING,
    FINAL_NORM,
    HEAD_INPUT,
    coded,
    head_name,
    parts,
    tensors,
)
from h2q.core.events import Progress, ProgressListener
from h2q.core.memory import return_freed_memory
from h2q.core.tensor_spec import TensorSpec
from h2q.crystallize.allocate import TOWERS
from h2q.crystallize.budget import parameters
from h2q.crystallize.growing import (
    GrowingLayer,
    Grown,
    Heard,
    HeardWeights,
    grow_part,
    read_rotated,
)
from h2q.crystallize.journal import Journal
from h2q.crystallize.keeping import PlanJournal, Streams
from h2q.crystallize.moments import FloatArray, TokenArray
from h2q.crystallize.options import LARGE, Options
from h2q.crystallize.stability import SpectralStabilityController
from h2q.crystallize.towers import Matrix, TowerPlan
from h2q.engine.block import entering, run_texts
from h2q.engine.load import build_layer
from h2q.engine.projections import PlaneEmbedding
from h2q.geometry.rotation import rotation
from h2q.sources import Source

STAGE = "encode planes"
# Columns committed and looked at in a large model: every column is searched one and a third times
# instead of three times, for three percent more loss (docs/lab/LOG.md).
LARGE_COMMIT, LARGE_LOOKAHEAD = 48, 16


@dataclass
class Growth:
    """Grows all parts of `source`. head_moments: float32 (width, width) in the rotated basis, of
    what the head reads; shapes a tied embedding. `watched`: texts whose last hidden states are
    kept on the way, the original's: after `grow`, `hidden[i]` is float32 (texts * length, width).
    With a journal, what was finished before is taken from there.
    """

    source: Source
    options: Options
    listener: ProgressListener
    calibration: TokenArray
    head_moments: FloatArray
    watched: list[TokenArray] = field(default_factory=list)
    journal: Journal | None = None
    hidden: list[FloatArray] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.table: dict[str, TensorSpec] = {t.name: t for t in tensors(self.source.spec)}
        self._large = parameters(self.source.spec) >= LARGE
        self._sizes = {part.name: math.prod(part.shape) for part in coded(self.source.spec)}

    def grow(self, bits: Mapping[str, int], watch: SpectralStabilityController) -> dict[str, Grown]:
        """Every part with its tower of `bits[name]` bits a weight. `watch` observes both
        streams after the embedding and each layer. Raises SourceError, QualityError, Cancelled.
        """
        spec = self.source.spec
        plans = {name: self._plan(count) for name, count in bits.items()}
        self._total = float(sum(self._sizes[n] * len(plan.bits) for n, plan in plans.items()))
        self._done = 0.0
        journal = PlanJournal(self.journal, bits)
        grown, streams = self._begun(plans, journal)
        batch = len(self.calibration)
        places = np.tile(np.arange(self.calibration.shape[1]), batch)
        if streams.watched_growth is None:
            watch.observe(-1, streams.original, streams.crystal, places)
        else:
            watch.restore(streams.watched_growth)
        for index in range(streams.layer + 1, spec.num_hidden_layers):
            weights = HeardWeights(self.source, self.table)
            layer = build_layer(spec, weights, index)
            original = run_texts(spec, layer, streams.original, batch, weights.hear)
            watched = [
                run_texts(spec, layer, stream, len(tokens))
                for stream, tokens in zip(streams.watched, self.watched, strict=False)
            ]
            heard = weights.heard
            del layer, weights
            # What is added to the stream is multiplied before.
            drift = (streams.original - streams.crystal) / np.float32(spec.residual_multiplier)
            growing = self._layer(plans, heard, drift)
            crystal = streams.crystal
            del streams, drift  # large
            crystal = run_texts(spec, build_layer(spec, growing, index), crystal, batch)
            watch.observe(index, original, crystal, places)
            streams = Streams(index, original, crystal, watched, watch.state())
            journal.keep(index, growing.grown)
            grown.update(journal.kept(index) or growing.grown)  # where there is one, in its files
            journal.keep_streams(streams)
            del growing, heard, original, crystal, watched  # large
            return_freed_memory()
        if not spec.tie_word_embeddings:
            head = journal.kept("head")
            if head is None:
                head = self._head(plans, streams)
                journal.keep("head", head)
            grown.update(head)
        self.hidden = self.hidden or streams.watched
        return grown

    def _begun(
        self, plans: dict[str, TowerPlan], journal: PlanJournal
    ) -> tuple[dict[str, Grown], Streams]:
        """What the journal has of this plan, or the embedding and the streams behind it."""
        streams = journal.kept_streams()
        if streams is not None:
            layers = [journal.kept(index) for index in range(-1, streams.layer + 1)]
            if all(layer is not None for layer in layers):
                grown = {name: part for layer in layers if layer for name, part in layer.items()}
                self._done = float(sum(self._sizes[n] * len(plans[n].bits) for n in grown))
                return grown, streams
        grown = self._embedding(plans)
        journal.keep(-1, grown)
        tiers = {part.name: grown[part.name].planes for part in parts(self.table[EMBEDDING])}
        spec = self.source.spec
        turn = rotation(self.options.seed, spec.hidden_size)
        crystal = entering(spec, PlaneEmbedding(tiers, turn)(self.calibration.reshape(-1)))
        texts = [self.calibration, *([] if self.hidden else self.watched)]
        table = np.asarray(self.source.tensor(EMBEDDING), np.float32)
        original, *watched = [entering(spec, table[tokens.reshape(-1)]) for tokens in texts]
        return grown, Streams(-1, original, crystal, watched)

    def _plan(self, bits: int) -> TowerPlan:
        planes, options = TOWERS[bits], self.options
        damping = [options.base_damping] * len(planes)
        if len(planes) > 1:  # what has planes above leaves them something even
            damping[-1] = options.refine_damping
        if self._large:
            return TowerPlan(planes, tuple(damping), LARGE_COMMIT, LARGE_LOOKAHEAD)
        return TowerPlan(planes, tuple(damping))

    def _layer(self, plans: dict[str, TowerPlan], heard: Heard, drift: FloatArray) -> GrowingLayer:
        return GrowingLayer(
            self.source,
            self.options.seed,
            plans,
            self.table,
            heard,
            drift,
            self.options.ridge,
            self._report(plans),
        )

    def _embedding(self, plans: dict[str, TowerPlan]) -> dict[str, Grown]:
        """A tied embedding is shaped by what the head reads and, as it is looked up row by row, by
        an identity; one of its own by nothing.
        """
        moments = None
        if self.source.spec.tie_word_embeddings:
            moments = self.head_moments.copy()
            strength = self.options.embedding_identity * float(np.trace(moments)) / len(moments)
            moments[np.diag_indices(len(moments))] += strength
        weights = read_rotated(self.source, EMBEDDING, self.options.seed)
        report = self._report(plans)
        shapes: dict[float, FloatArray] = {}
        out: dict[str, Grown] = {}
        for part in parts(self.table[EMBEDDING]):
            out[part.name] = grow_part(
                Matrix(part.name, weights[part.rows], moments, shapes),
                plans[part.name],
                lambda share, name=part.name: report(name, share),  # type: ignore[misc]
            )
        return out

    def _head(self, plans: dict[str, TowerPlan], streams: Streams) -> dict[str, Grown]:
        spec = self.source.spec
        norm = np.asarray(self.source.tensor(FINAL_NORM), np.float32)
        read, x = (
            kernels.rms_norm(stream, norm, spec.rms_norm_eps)
            for stream in (streams.original, streams.crystal)
        )
        growing = self._layer(plans, Heard({HEAD_INPUT: read}), streams.original)
        growing.grow([head_name(spec)], x)
        return growing.grown

    def _report(self, plans: dict[str, TowerPlan]) -> Callable[[str, float], bool]:
        def report(name: str, share: float) -> bool:
            size = self._sizes[name] * len(plans[name].bits)
            self.listener(Progress(STAGE, self._done + share * size, self._total, "weights"))
            if share >= 1:
                self._done += size
            return True

        return report
