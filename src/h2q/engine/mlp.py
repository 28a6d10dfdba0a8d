"""The gated MLP (Shazeer 2020): of a layer, of an expert, of the experts that all tokens share."""

from __future__ import annotations

from dataclasses import dataclass

from h2q import kernels
from h2q.engine.projections import Apply, FloatArray, Matrices, Projection

GATES = {"silu": kernels.swiglu, "gelu_pytorch_tanh": kernels.geglu}


@dataclass(frozen=True)
class GatedMLP:
    """down(act(gate(x)) * up(x)); biases: of gate, up and down, where the model has them."""

    name: str
    gate_up: Projection
    down: Projection
    act: str = "silu"
    biases: tuple[FloatArray, ...] = ()

    def __call__(self, x: FloatArray, apply: Apply) -> FloatArray:
        """float32 (T, width) to the same."""
        inner = GATES[self.act](*apply(f"{self.name}.in", self.gate_up, x, self.biases[:2]))
        return apply(f"{self.name}.out", self.down, inner, self.biases[2:])[0]

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [self.gate_up, self.down]
