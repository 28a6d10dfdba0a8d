"""The gated MLP (Shazeer 2020): of a layer, of an expert, of the experts that all tokens share."""

from __future__ import annotations

from dataclasses import dataclass

from h2q import kernels
from h2q.engine.projections import Apply, FloatArray, Matrices, Projection


@dataclass(frozen=True)
class GatedMLP:
    """down(silu(gate(x)) * up(x))."""

    name: str
    gate_up: Projection
    down: Projection

    def __call__(self, x: FloatArray, apply: Apply) -> FloatArray:
        """float32 (T, width) to the same."""
        gate, up = apply(f"{self.name}.in", self.gate_up, x)
        return apply(f"{self.name}.out", self.down, kernels.swiglu(gate, up))[0]

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [self.gate_up, self.down]
