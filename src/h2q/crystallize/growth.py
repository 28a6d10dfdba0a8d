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
    TensorSpec,
    coded,
    head_name,
    parts,
    tensors,
)
from h2q.core.events import Progress, ProgressListener
from h2q.crystallize.allocate import TOWERS
from h2q.crystallize.growing import GrowingLayer, Grown, grow_part, read_rotated
from h2q.crystallize.moments import FloatArray, TokenArray
from h2q.crystallize.options import Options
from h2q.crystallize.towers import Matrix, TowerPlan
from h2q.engine.block import run_texts
from h2q.engine.load import OriginalWeights, build_layer
from h2q.engine.projections import PlaneEmbedding
from h2q.geometry.rotation import rotation
from h2q.sources import Source

STAGE = "encode planes"
# layer (-1: the embedding), original's stream, crystal's, positions in their texts
Hidden = Callable[[int, FloatArray, FloatArray, TokenArray], None]


@dataclass
class Growth:
    """Grows all parts of `source`. head_moments: float32 (width, width) in the rotated basis, of
    what the head reads; shapes a tied embedding. `watched`: texts whose last hidden states are
    kept on the way, the original's: after `grow`, `hidden[i]` is float32 (texts * length, width).
    """

    source: Source
    options: Options
    listener: ProgressListener
    calibration: TokenArray
    head_moments: FloatArray
    watched: list[TokenArray] = field(default_factory=list)
    hidden: list[FloatArray] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.table: dict[str, TensorSpec] = {t.name: t for t in tensors(self.source.spec)}
        self._sizes = {part.name: math.prod(part.shape) for part in coded(self.source.spec)}

    def grow(self, bits: Mapping[str, int], hidden: Hidden | None = None) -> dict[str, Grown]:
        """Every part with its tower of `bits[name]` bits a weight. `hidden` is shown both streams
        after the embedding and each layer. Raises SourceError, QualityError, Cancelled.
        """
        spec, seed = self.source.spec, self.options.seed
        plans = {name: self._plan(count) for name, count in bits.items()}
        self._done, self._total = (
            0.0,
            float(sum(self._sizes[n] * len(plan.bits) for n, plan in plans.items())),
        )
        grown = self._embedding(plans)
        batch = len(self.calibration)
        original = self._looked_up(self.calibration)
        tiers = {part.name: grown[part.name].planes for part in parts(self.table[EMBEDDING])}
        embedding = PlaneEmbedding(tiers, rotation(seed, spec.hidden_size))
        crystal = embedding(self.calibration.reshape(-1))
        places = np.tile(np.arange(self.calibration.shape[1]), batch)
        if hidden is not None:
            hidden(-1, original, crystal, places)
        watched = [] if self.hidden else [self._looked_up(tokens) for tokens in self.watched]
        for index in range(spec.num_hidden_layers):
            layer = build_layer(OriginalWeights(self.source), index)
            seen: dict[str, FloatArray] = {}
            after = run_texts(spec, layer, original, batch, seen.__setitem__)
            watched = [
                run_texts(spec, layer, stream, len(tokens))
                for stream, tokens in zip(watched, self.watched, strict=False)
            ]
            del layer
            growing = self._layer(plans, seen, original - crystal)
            crystal = run_texts(spec, build_layer(growing, index), crystal, batch)
            original = after
            grown.update(growing.grown)
            if hidden is not None:
                hidden(index, original, crystal, places)
        if not spec.tie_word_embeddings:
            grown.update(self._head(plans, original, crystal))
        self.hidden = self.hidden or watched
        return grown

    def _plan(self, bits: int) -> TowerPlan:
        planes = TOWERS[bits]
        above = (self.options.refine_damping,) * (len(planes) - 1)
        return TowerPlan(planes, (self.options.base_damping, *above))

    def _layer(
        self, plans: dict[str, TowerPlan], seen: dict[str, FloatArray], drift: FloatArray
    ) -> GrowingLayer:
        return GrowingLayer(
            self.source,
            self.options.seed,
            plans,
            self.table,
            seen,
            drift,
            self.options.ridge,
            self._report(plans),
        )

    def _looked_up(self, tokens: TokenArray) -> FloatArray:
        table = np.asarray(self.source.tensor(EMBEDDING), np.float32)
        return np.ascontiguousarray(table[tokens.reshape(-1)])

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
            rows = weights[part.begin : part.begin + part.shape[0]]
            out[part.name] = grow_part(
                part.name,
                Matrix(part.name, rows, moments, shapes),
                plans[part.name],
                lambda share, name=part.name: report(name, share),  # type: ignore[misc]
            )
        return out

    def _head(
        self, plans: dict[str, TowerPlan], original: FloatArray, crystal: FloatArray
    ) -> dict[str, Grown]:
        spec = self.source.spec
        norm = np.asarray(self.source.tensor(FINAL_NORM), np.float32)
        read, x = (kernels.rms_norm(s, norm, spec.rms_norm_eps) for s in (original, crystal))
        growing = self._layer(plans, {HEAD_INPUT: read}, original)
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
