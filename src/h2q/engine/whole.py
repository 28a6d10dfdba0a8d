"""All layers as one operation: the plain form of most families, planes in all seven matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_

import numpy as np

from h2q import kernels
from h2q.codec.pages import Pages
from h2q.core.specs import SLIDING, ModelSpec
from h2q.engine.block import Layer
from h2q.engine.heads import Attention
from h2q.engine.mlp import GatedMLP
from h2q.engine.positions import Positions
from h2q.engine.projections import FloatArray, PlaneProjection
from h2q.engine.rows import Rows

NONE3 = (None, None, None)
MATRICES = [3, 1, 2, 1]  # that read one input: q/k/v, o, gate/up, down


@dataclass(frozen=True)
class Plain:
    """A layer of the plain form."""

    layer: Layer
    attention: Attention
    mlp: GatedMLP
    matrices: tuple[PlaneProjection, ...]

    @classmethod
    def of(cls, layer: Layer) -> Plain | None:
        """None for another form: experts, a latent, sinks, matrices that are not planes."""
        attention, mlp = layer.attention, layer.mlp
        if not isinstance(attention, Attention) or not isinstance(mlp, GatedMLP):
            return None
        if attention.sinks is not None:
            return None
        together = (attention.qkv, attention.o, mlp.gate_up, mlp.down)
        matrices = tuple(one for one in together if isinstance(one, PlaneProjection))
        if [len(matrix.names) for matrix in matrices] != MATRICES:
            return None
        return cls(layer, attention, mlp, matrices)

    def operands(self, spec: ModelSpec) -> kernels.LayerOperands:
        """With the planes it has now."""
        layer, attention, mlp = self.layer, self.attention, self.mlp
        return kernels.LayerOperands(
            name=layer.name,
            turns=[matrix.rotation for matrix in self.matrices],
            stacks=[stack for matrix in self.matrices for stack in matrix.stacks],
            biases=[
                *(attention.biases or NONE3),
                *(attention.o_bias or NONE3[:1]),
                *(mlp.biases or NONE3),
            ],
            input_norm=layer.input_norm,
            post_norm=layer.post_norm,
            q_norm=attention.q_norm,
            k_norm=attention.k_norm,
            after_attention=layer.after_attention,
            after_mlp=layer.after_mlp,
            heads=spec.num_attention_heads,
            kv_heads=spec.num_key_value_heads,
            head_dim=spec.head_dim,
            rule=attention.rule,
            eps=spec.rms_norm_eps,
            multiplier=spec.residual_multiplier,
            act=mlp.act,
        )


class Whole:
    """Runs the layers of a model for rows over pages, to the same bits as one operation after the
    other would.
    """

    def __init__(self, spec: ModelSpec, layers: Sequence[Plain]) -> None:
        self._spec, self._layers = spec, layers
        self._matrices = [matrix for plain in layers for matrix in plain.matrices]
        self._turns = np.array([_turn(spec, plain.attention.index) for plain in layers], np.int32)
        self._held: list[object] = []  # what the operands were made of
        self._when: tuple[Sequence[Pages], object] | None = None  # it was looked at last
        self._stacked: kernels.StackedLayers | None = None

    @classmethod
    def of(cls, spec: ModelSpec, layers: Sequence[Layer]) -> Whole | None:
        """None where a layer is of another form."""
        plain = [found for found in map(Plain.of, layers) if found is not None]
        return cls(spec, plain) if plain and len(plain) == len(layers) else None

    def __call__(self, x: FloatArray, rows: Rows, positions: Positions) -> FloatArray:
        """See run_layer. Raises KernelError when a value is not finite."""
        angles = [positions.cos, positions.sin]
        if positions.local is not None:
            angles += [positions.local.cos, positions.local.sin]
        return kernels.run_layers(self._current(rows.pool.layers), x, angles, rows.where)

    def _current(self, pages: Sequence[Pages]) -> kernels.StackedLayers:
        when, exchanged = self._when, PlaneProjection.exchanged
        if self._stacked and when and when[0] is pages and when[1] is exchanged:
            return self._stacked
        self._when = pages, exchanged
        held = [*(matrix.stacks for matrix in self._matrices), *pages]
        same = len(held) == len(self._held) and all(map(is_, held, self._held))
        if self._stacked is None or not same:
            operands = [plain.operands(self._spec) for plain in self._layers]
            self._stacked = kernels.StackedLayers(operands, pages, self._turns)
            self._held = held
        return self._stacked


def _turn(spec: ModelSpec, layer: int) -> int:
    """Which angles turn a layer: none, those of all, those of sliding layers."""
    if layer in spec.no_rope_layers:
        return -1
    return int(bool(spec.rope_local_base_freq) and spec.layer_type(layer) == SLIDING)
