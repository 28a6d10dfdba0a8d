"""A named tensor of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["embedding", "linear", "norm", "raw"]


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor. `reads` names the input it multiplies: tensors with one `reads` share one
    rotated input. `adds`: its output is added to the stream as it is. `raw`: small, and kept as it
    is, like a norm.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    reads: str = ""
    adds: bool = False

    @property
    def coded(self) -> bool:
        """Whether it is stored as planes."""
        return self.kind in ("embedding", "linear")


def linear(name: str, rows: int, cols: int, reads: str, adds: bool = False) -> TensorSpec:
    """A matrix `name`.weight."""
    return TensorSpec(f"{name}.weight", (rows, cols), "linear", reads, adds)


def norm(name: str, width: int) -> TensorSpec:
    """The gain `name`.weight."""
    return TensorSpec(f"{name}.weight", (width,), "norm")


def bias(name: str, rows: int) -> TensorSpec:
    """What is added to the outputs of a matrix, `name`.bias."""
    return TensorSpec(f"{name}.bias", (rows,), "raw")
