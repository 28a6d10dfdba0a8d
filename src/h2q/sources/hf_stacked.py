"""Experts of gpt-oss as its checkpoints hold them: one tensor for all experts of a layer, gates and
ups side by side. A tensor here is cut into its experts, each a matrix to be read when asked for.

| stored (in `model.layers.N.mlp.experts.`) | shape |
|---|---|
| gate_up_proj | experts, width, 2 inner: columns gate, up, gate, up, ... |
| down_proj | experts, inner, width |
| gate_up_proj_bias, down_proj_bias | experts, 2 inner or width |
| ..._proj_blocks, in place of a matrix | experts, outputs, inputs / 32, 16: MXFP4, two a byte |
| ..._proj_scales, beside blocks | experts, outputs, inputs / 32 |

MXFP4 (OCP Microscaling Formats 1.0): 32 weights of sign, two bits of exponent, one of fraction, the
even one in a byte's low half, times two to the power of their scale minus 127.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError
from h2q.core.safetensors_header import ITEM_BYTES, TensorEntry
from h2q.core.specs import ModelSpec

FloatArray = npt.NDArray[np.float32]
Place = tuple[Path, TensorEntry]
Read = Callable[[Place], FloatArray]  # float32, as the entry is shaped; bytes as they are
BLOCK, BIAS, METHOD = 32, 127, "mxfp4"
HALVES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
VALUES = np.concatenate([HALVES, -HALVES])  # of every four bits
FLOATS = ("F32", "F16", "BF16")
EVERY = slice(None)
PARTS = {  # of an expert's tensor: the stored one, and which of its outputs
    "gate_proj": ("gate_up_proj", slice(0, None, 2)),
    "up_proj": ("gate_up_proj", slice(1, None, 2)),
    "down_proj": ("down_proj", EVERY),
}


@dataclass(frozen=True)
class Slab:
    """What is stored of one expert, and which outputs of it are wanted."""

    values: Place
    outputs: slice
    scales: Place | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what `read` gives."""
        stored = self.values[1].shape
        count = len(range(*self.outputs.indices(stored[0 if self.scales else -1])))
        if len(stored) == 1:
            return (count,)
        return count, BLOCK * stored[1] if self.scales else stored[0]

    def read(self, read: Read) -> FloatArray:
        """Float32 (outputs, inputs), or (outputs,) of a bias. Infinite where scales are no
        numbers.
        """
        values = read(self.values)
        if self.scales is None:
            wanted = values[..., self.outputs]
            return np.ascontiguousarray(wanted.T)
        return unpack(values[self.outputs], read(self.scales)[self.outputs])


def unpack(blocks: npt.NDArray[np.generic], scales: npt.NDArray[np.generic]) -> FloatArray:
    """MXFP4 blocks (rows, count, 16) and their scales (rows, count), both of whole numbers below
    256, as weights (rows, 32 count); infinite where a scale is 255, which stands for no number.
    """
    codes = blocks.astype(np.uint8)
    weights = np.empty((*codes.shape[:2], BLOCK), np.float32)
    weights[..., 0::2], weights[..., 1::2] = VALUES[codes & 15], VALUES[codes >> 4]
    powers = scales.astype(np.int32)
    with np.errstate(over="ignore"):  # infinite too
        weights = np.ldexp(weights, (powers - BIAS)[..., None])
    weights[powers == 255] = np.inf
    return weights.reshape(len(codes), -1)


def is_stacked(spec: ModelSpec, config: Mapping[str, Any]) -> bool:
    """Whether a config.json announces the blocks that split_stacked looks for."""
    found = config.get("quantization_config")
    return (
        spec.family == "gpt_oss"
        and isinstance(found, Mapping)
        and found.get("quant_method") == METHOD
    )


def split_stacked(
    spec: ModelSpec, entries: dict[str, Place]
) -> tuple[dict[str, Place], dict[str, Slab]]:
    """The entries that are no experts of gpt-oss, and those experts by the name of their tensor.
    Raises SourceError where one is stored twice or in another shape than its model has.
    """
    if spec.family != "gpt_oss" or spec.experts is None:
        return entries, {}
    left, slabs = dict(entries), dict[str, Slab]()
    for index in range(spec.num_hidden_layers):
        room = f"model.layers.{index}.mlp.experts"
        for part, (stored, outputs) in PARTS.items():
            for end in ("weight", "bias"):
                found = _stored(spec, entries, f"{room}.{stored}", end)
                for place in found:
                    left.pop(place[1].name, None)
                for expert in range(spec.experts.num_experts if found else 0):
                    cuts = [_cut(place, expert) for place in found]
                    slab = Slab(cuts[0], outputs, cuts[1] if len(cuts) > 1 else None)
                    slabs[f"{room}.{expert}.{part}.{end}"] = slab
    return left, slabs


def _stored(spec: ModelSpec, entries: dict[str, Place], name: str, end: str) -> list[Place]:
    """What holds the experts of one kind: a tensor, or blocks and scales, or nothing."""
    inner = spec.experts.moe_intermediate_size if spec.experts is not None else 0
    sizes = (spec.hidden_size, 2 * inner) if "gate_up" in name else (inner, spec.hidden_size)
    inputs, outputs = sizes
    bytes_of = [f"{name}_blocks", f"{name}_scales"]
    shapes: list[tuple[int, ...]] = [(inputs, outputs)]
    wanted = [name]
    kinds: tuple[str, ...] = FLOATS
    if end == "bias":
        wanted, shapes = [f"{name}_bias"], [(outputs,)]
    elif any(each in entries for each in bytes_of):
        if name in entries:
            raise SourceError("The experts are stored twice.", where=name)
        wanted, kinds = bytes_of, ("U8",)
        count = -(-inputs // BLOCK)
        shapes = [(outputs, count, BLOCK // 2), (outputs, count)]
        if inputs % BLOCK:
            raise SourceError(
                f"{inputs} inputs of an expert do not split into blocks of {BLOCK}.", where=name
            )
    found = [entries[each] for each in wanted if each in entries]
    if found and len(found) < len(wanted):
        raise SourceError("Blocks and scales of experts come together.", where=name)
    for (path, entry), shape in zip(found, shapes, strict=False):
        whole = (spec.experts.num_experts if spec.experts else 0, *shape)
        if entry.shape != whole or entry.dtype not in kinds:
            raise SourceError(
                f"The config asks for shape {whole} of {' or '.join(kinds)}, the file holds "
                f"{entry.shape} of {entry.dtype}.",
                where=f"{path.name}: {entry.name}",
                fix="config.json and weights do not belong together.",
            )
    return found


def _cut(place: Place, expert: int) -> Place:
    """One expert's bytes."""
    path, entry = place
    shape = entry.shape[1:]
    size = math.prod(shape) * ITEM_BYTES[entry.dtype]
    begin = entry.begin + expert * size
    return path, replace(entry, shape=shape, begin=begin, end=begin + size)
