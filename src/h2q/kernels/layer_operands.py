"""What a decoder layer multiplies and adds, looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import Pages
from h2q.core.attention import AttentionRule
from h2q.geometry.rotation import Rotation
from h2q.kernels.prepared import PlaneStack

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerOperands:
    """turns: rotations of what q/k/v, o, gate/up and down read. stacks: q, k, v, o, gate, up, down;
    biases: theirs, or None. q_norm, k_norm: float32 (head_dim,), the other norms (width,), None
    where there is none. multiplier: of what attention and MLP answer. act: "silu" or
    "gelu_pytorch_tanh". `handles` belongs to the native operations.
    """

    name: str
    turns: Sequence[Rotation]
    stacks: Sequence[PlaneStack]
    biases: Sequence[FloatArray | None]
    input_norm: FloatArray
    post_norm: FloatArray
    q_norm: FloatArray | None
    k_norm: FloatArray | None
    after_attention: FloatArray | None
    after_mlp: FloatArray | None
    heads: int
    kv_heads: int
    head_dim: int
    rule: AttentionRule
    eps: float
    multiplier: float
    act: str
    handles: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class StackedLayers:
    """Layers that run one after the other. turns: int32 (layers,), which of a step's angles turn
    each, -1 for none.
    """

    layers: Sequence[LayerOperands]
    pages: Sequence[Pages]
    turns: npt.NDArray[np.int32]
    handles: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class StepRows:
    """Rows of one step (h2q.kernels.paged): slots int64 (rows,), tables int32 (streams, most
    pages), streams and seen int32 (rows,).
    """

    slots: npt.NDArray[np.int64]
    tables: npt.NDArray[np.int32]
    streams: npt.NDArray[np.int32]
    seen: npt.NDArray[np.int32]
