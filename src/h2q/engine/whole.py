"""A layer as one operation: the plain form of most families, planes in all seven matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2q import kernels
from h2q.core.errors import KernelError
from h2q.core.specs import ModelSpec
from h2q.engine.heads import Attention
from h2q.engine.mlp import GatedMLP
from h2q.engine.positions import Positions
from h2q.engine.projections import FloatArray, PlaneProjection
from h2q.engine.rows import Rows

if TYPE_CHECKING:
    from h2q.engine.block import Layer

NONE3 = (None, None, None)


class Whole:
    """Runs a layer for rows over pages, to the same bits as its operations one by one."""

    def __init__(
        self, layer: Layer, attention: Attention, mlp: GatedMLP, matrices: list[PlaneProjection]
    ) -> None:
        self._layer, self._attention, self._mlp, self._matrices = layer, attention, mlp, matrices
        self._made: tuple[tuple[kernels.PlaneStack, ...], ...] = ()
        self._operands: kernels.LayerOperands | None = None

    @classmethod
    def of(cls, layer: Layer) -> Whole | None:
        """None for a layer of another form: experts, a latent, matrices that are not planes."""
        attention, mlp = layer.attention, layer.mlp
        if not isinstance(attention, Attention) or not isinstance(mlp, GatedMLP):
            return None
        matrices = [
            matrix
            for matrix in (attention.qkv, attention.o, mlp.gate_up, mlp.down)
            if isinstance(matrix, PlaneProjection)
        ]
        if [len(matrix.names) for matrix in matrices] != [3, 1, 2, 1]:
            return None
        return cls(layer, attention, mlp, matrices)

    def __call__(
        self, spec: ModelSpec, x: FloatArray, rows: Rows, slot: int, positions: Positions
    ) -> FloatArray:
        """See run_layer. Raises KernelError when a value is not finite."""
        mine = positions.of_layer(spec, self._attention.index)
        cos, sin = (None, None) if mine is None else (mine.cos, mine.sin)
        operands = self._current(spec)
        try:
            return kernels.run_layer(operands, x, rows.pool.layers[slot], cos, sin, rows.where)
        except KernelError as error:
            raise error.at(self._layer.name) from error

    def _current(self, spec: ModelSpec) -> kernels.LayerOperands:
        operands = self._operands
        if operands is not None:
            for matrix, stacks in zip(self._matrices, self._made, strict=True):
                if matrix.stacks is not stacks:
                    break
            else:
                return operands
        self._made = tuple(matrix.stacks for matrix in self._matrices)
        self._operands = self._read(spec, self._made)
        return self._operands

    def _read(
        self, spec: ModelSpec, made: tuple[tuple[kernels.PlaneStack, ...], ...]
    ) -> kernels.LayerOperands:
        layer, attention, mlp = self._layer, self._attention, self._mlp
        return kernels.LayerOperands(
            turns=tuple(matrix.rotation for matrix in self._matrices),
            stacks=[stack for stacks in made for stack in stacks],
            biases=(
                *(attention.biases or NONE3),
                *(attention.o_bias or NONE3[:1]),
                *(mlp.biases or NONE3),
            ),
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
