"""The gated MLP (Shazeer 2020): of a layer, of an expert, of the experts that all tokens share."""

from __future__ import annotations

from dataclasses import dataclass

from h2q import kernels
from h2q.core.specs import CLAMPED
from h2q.engine.projections import Apply, FloatArray, Matrices, Projection

ROWS_AT_ONCE = 1024
GATES = {
    "silu": kernels.swiglu,
    "gelu_pytorch_tanh": kernels.geglu,
    CLAMPED: kernels.clamped_swiglu,
}


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
        inner = self._inner(*apply(f"{self.name}.in", self.gate_up, x, self.biases[:2]))
        del x  # as large as all else, where a layer runs for many texts at once
        return apply(f"{self.name}.out", self.down, inner, self.biases[2:])[0]

    def _inner(self, gate: FloatArray, up: FloatArray) -> FloatArray:
        """What down reads; of many rows in the place of the gates."""
        if len(gate) <= ROWS_AT_ONCE:
            return GATES[self.act](gate, up)
        for begin in range(0, len(gate), ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            gate[rows] = GATES[self.act](gate[rows], up[rows])
        return gate

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [self.gate_up, self.down]
