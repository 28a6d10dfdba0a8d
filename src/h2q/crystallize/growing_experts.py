"""Experts that grow while their layer is run for the first time.

A token's experts are chosen by the crystal's own stream. Each expert is coded for the tokens that
chose it; where those are few, all tokens of the layer stand in for PRIOR_TOKENS more, as inputs of
gate and up, and, sent through the new gate and up, as inputs of down. So an expert that no token
chose is coded too. Experts are not corrected for what their inputs lack: the original may have sent
the same tokens elsewhere, and a few hundred tokens are too few to solve for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.crystallize.growing import GrowingLayer
from h2q.crystallize.moments import FloatArray, second_moments, with_prior
from h2q.engine.experts import Choice, Dispatch, Experts
from h2q.engine.mlp import GATES, GatedMLP
from h2q.engine.projections import Apply, PlaneProjection, Projection
from h2q.geometry.rotation import rotation

PRIOR_TOKENS = 64.0
PRIOR_SAMPLE = 512  # of all tokens, sent through every expert


class GrowingExperts:
    """See engine.experts.Experts. Grows at the first call, then dispatches to planes."""

    def __init__(self, layer: GrowingLayer, mlps: Sequence[GatedMLP]) -> None:
        self.layer, self.mlps = layer, mlps
        self._grown: Experts | None = None

    def __call__(self, x: FloatArray, choice: Choice, apply: Apply) -> FloatArray:
        if self._grown is None:
            self._grown = self._grow(x, choice)
        return self._grown(x, choice, apply)

    def _grow(self, x: FloatArray, choice: Choice) -> Experts:
        every = self._turned(x)
        shared = second_moments(every, self.mlps[0].name)
        sample = x[np.linspace(0, len(x) - 1, min(PRIOR_SAMPLE, len(x))).astype(np.int64)]
        out = []
        for mlp, (rows, _) in zip(self.mlps, choice.rows(len(self.mlps)), strict=True):
            names = mlp.gate_up.names
            gate_up = self._coded(names, _mixed(every[rows], shared, names[0]), len(rows))
            before, own = (self._inner(mlp, gate_up, part) for part in (sample, x[rows]))
            names = mlp.down.names
            prior = second_moments(before, names[0])
            down = self._coded(names, _mixed(own, prior, names[0]), len(rows))
            out.append(replace(mlp, gate_up=gate_up, down=down))
        return Dispatch(out)

    def _inner(self, mlp: GatedMLP, gate_up: Projection, x: FloatArray) -> FloatArray:
        """What down reads, rotated: float32 (T, inner)."""
        if not len(x):
            return np.zeros((0, 1), np.float32)
        answers = Apply()(f"{mlp.name}.in", gate_up, x, mlp.biases[:2])
        return self._turned(GATES[mlp.act](*answers))

    def _turned(self, x: FloatArray) -> FloatArray:
        turn = rotation(self.layer.seed, x.shape[1])
        return kernels.rotate(np.ascontiguousarray(x), turn)

    def _coded(self, names: Sequence[str], moments: FloatArray, tokens: int) -> PlaneProjection:
        return self.layer.code(names, moments, tokens)


def _mixed(own: FloatArray, shared: FloatArray, reads: str) -> npt.NDArray[np.float32]:
    """Moments of an expert's own inputs and of those that stand in for more."""
    if not len(own):
        return shared
    return with_prior(second_moments(own, reads), len(own), shared, PRIOR_TOKENS)
