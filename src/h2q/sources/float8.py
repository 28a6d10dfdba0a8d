"""Eight-bit floats as checkpoints ship them: each code widened exactly, then multiplied by the
scale of its block, row or tensor.

A code is sign, exponent, fraction: F8_E4M3 has bias 7, no infinity and one NaN per sign (the kind
called e4m3fn); F8_E5M2 is the upper byte of IEEE half precision. A scale called `weight_scale_inv`
multiplies like one called `weight_scale`; the name only says that it was divided by before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.errors import SourceError

FloatArray = npt.NDArray[np.float32]

SCALE_SUFFIXES = ("_scale_inv", "_scale")
MAX_BLOCK = 1 << 16


def _table(exponent_bits: int, fraction_bits: int, infinities: bool) -> FloatArray:
    """Float32 (256,): the value of every code."""
    codes = np.arange(256)
    top = (1 << exponent_bits) - 1
    exponent = codes >> fraction_bits & top
    fraction = codes & (1 << fraction_bits) - 1
    whole = fraction + np.where(exponent > 0, 1 << fraction_bits, 0)
    bias = (1 << exponent_bits - 1) - 1
    values = np.ldexp(whole.astype(np.float32), np.maximum(exponent, 1) - bias - fraction_bits)
    last = (1 << fraction_bits) - 1
    if infinities:
        values[(exponent == top) & (fraction == 0)] = np.inf
        values[(exponent == top) & (fraction > 0)] = np.nan
    else:
        values[(exponent == top) & (fraction == last)] = np.nan
    return np.asarray(np.where(codes & 128, -values, values), np.float32)


TABLES = {"F8_E4M3": _table(4, 3, infinities=False), "F8_E5M2": _table(5, 2, infinities=True)}


@dataclass(frozen=True)
class Float8:
    """What a config says about fp8 weights. `block`: rows and columns that share a scale; None: one
    scale per tensor or per row, as the shape of the scales says.
    """

    block: tuple[int, int] | None

    def grid(self, weight: tuple[int, ...], scales: tuple[int, ...]) -> tuple[int, int] | None:
        """Rows and columns that share a scale in a weight of this shape; None when the two shapes
        do not belong together.
        """
        if len(weight) != 2:
            return None
        rows, cols = weight
        if self.block is not None:
            high, wide = self.block
            return self.block if scales == (-(-rows // high), -(-cols // wide)) else None
        if scales in ((), (1,), (1, 1)):
            return rows, cols
        return (1, cols) if scales in ((rows,), (rows, 1)) else None


def widen(codes: npt.NDArray[np.uint8], dtype: str) -> FloatArray:
    """Codes of any shape to the float32 they stand for; NaN codes become NaN."""
    return np.asarray(TABLES[dtype][codes])


def scale(values: FloatArray, scales: FloatArray, grid: tuple[int, int]) -> None:
    """Multiplies values (rows, cols) in place by their scales; `grid` as Float8.grid gave it."""
    rows, cols = values.shape
    high, wide = grid
    table = scales.reshape(-(-rows // high), -(-cols // wide))
    if table.shape[1] == 1:
        values *= np.repeat(table[:, 0], high)[:rows, None]
        return
    for index, row in enumerate(table):
        values[index * high : (index + 1) * high] *= np.repeat(row, wide)[:cols]


def read_float8(config: Mapping[str, Any], where: str) -> Float8 | None:
    """The fp8 weights a config.json announces, None when it announces no quantization.

    Known: `fp8` (with weight_block_size as DeepSeek-V3 has it, or without), `fbgemm_fp8`, and
    `compressed-tensors` in the format float-quantized. Raises SourceError on everything else.
    """
    found = config.get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, dict):
        raise SourceError("quantization_config is not an object.", where=where)
    method = found.get("quant_method")
    if method == "fp8" and found.get("fmt", "e4m3") in ("e4m3", "e5m2"):
        return Float8(_block(found.get("weight_block_size"), where))
    if method == "fbgemm_fp8":
        return Float8(None)
    if method == "compressed-tensors" and _is_plain_float8(found):
        blocks = [row["weights"].get("block_structure") for row in found["config_groups"].values()]
        if all(block == blocks[0] for block in blocks):
            return Float8(_block(blocks[0], where))
    kind = " ".join(
        str(found[key])[:40] for key in ("quant_method", "fmt", "format") if key in found
    )
    raise SourceError(
        f"The config asks for what this version cannot run: quantization_config ({kind}).",
        where=where,
        fix="Known: fp8 with block, row or tensor scales. Give the checkpoint it was made from.",
    )


def _block(value: object, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(isinstance(size, bool) or not isinstance(size, int) for size in value)
        or not all(1 <= size <= MAX_BLOCK for size in value)
    ):
        raise SourceError(
            f"The block of a scale must be two whole numbers from 1 to {MAX_BLOCK:,}.",
            where=where,
        )
    return value[0], value[1]


def _is_plain_float8(found: Mapping[str, Any]) -> bool:
    """Whether every group of a compressed-tensors config is dense eight-bit float weights."""
    groups = found.get("config_groups")
    if found.get("format") != "float-quantized" or not isinstance(groups, dict) or not groups:
        return False
    sparse = found.get("sparsity_config")
    if isinstance(sparse, dict) and sparse.get("format", "dense") != "dense":
        return False
    weights = [
        group.get("weights") if isinstance(group, dict) else None for group in groups.values()
    ]
    return not found.get("transform_config") and all(
        isinstance(row, dict)
        and (row.get("num_bits"), row.get("type")) == (8, "float")
        and row.get("strategy") in ("tensor", "channel", "block")
        and isinstance(row.get("block_structure"), (list, type(None)))
        for row in weights
    )
