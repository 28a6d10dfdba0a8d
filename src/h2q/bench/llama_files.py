"""GGUF files of a shape with random blocks, mixed as llama.cpp's quantizer mixes them: what its
engine is timed on. The words of the vocabulary mean nothing.

Block layouts and mixes are those of llama.cpp (ggml-common.h, llama-quant.cpp): a block is random
bytes but for its float16 scales, which keep the size of what is multiplied.

    type   weights  bytes  float16 at   of a size that makes weights of about 1
    Q4_0   32       18     0            1 / 4.6
    Q2_K   256      84     80, 82       1 / 15, times 1.5 for the minima
    Q3_K   256      110    108          1 / 42
    Q4_K   256      144    0, 2         1 / 250, times 7.5 for the minima
    Q6_K   256      210    208          1 / 1350
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

from h2q.core.architecture import head_name, tensors
from h2q.core.disk import replacement, writing
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.gguf_names import gguf_name

PIECE = 1 << 20  # words drawn at a time
SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = 256  # a vocabulary of this kind has a token for each


@dataclass(frozen=True)
class Halves:
    """Where a block has its float16 scales, and what they are for weights of about 1."""

    scale_at: int
    scale: float
    least_at: int = -1
    least: float = 0.0


HALVES: Mapping[str, Halves] = {
    "Q4_0": Halves(0, 1 / 4.6),
    "Q2_K": Halves(80, 1 / 15, 82, 1.5 / 15),
    "Q3_K": Halves(108, 1 / 42),
    "Q4_K": Halves(0, 1 / 250, 2, 7.5 / 250),
    "Q6_K": Halves(208, 1 / 1350),
}


@dataclass(frozen=True)
class Mix:
    """A kind of file: llama.cpp's number of it, and the type of each tensor (layer -1: none)."""

    number: int
    kind: Callable[[ModelSpec, str, int], str]


def _more_bits(layer: int, layers: int) -> bool:
    """The layers that llama.cpp's medium mixes are finer in: the first and last eighth, and every
    third between.
    """
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _q4_0(spec: ModelSpec, name: str, layer: int) -> str:
    return "Q6_K" if name == head_name(spec) else "Q4_0"


def _q4_k_m(spec: ModelSpec, name: str, layer: int) -> str:
    if name == head_name(spec):
        return "Q6_K"
    fine = name.endswith(("v_proj.weight", "down_proj.weight"))
    return "Q6_K" if fine and _more_bits(layer, spec.num_hidden_layers) else "Q4_K"


def _q2_k(spec: ModelSpec, name: str, layer: int) -> str:
    if name == head_name(spec):
        return "Q6_K"
    if name.endswith("v_proj.weight"):
        return "Q4_K" if spec.num_attention_heads // spec.num_key_value_heads >= 4 else "Q3_K"
    return "Q3_K" if name.endswith(("o_proj.weight", "down_proj.weight")) else "Q2_K"


MIXES: Mapping[str, Mix] = {
    "Q4_0": Mix(2, _q4_0),
    "Q2_K": Mix(10, _q2_k),
    "Q4_K_M": Mix(15, _q4_k_m),
}


def write_llama(path: Path, spec: ModelSpec, mix: str, seed: int = 0) -> None:
    """A file of a shape at `path`, in place of what is there. Widths must be multiples of 256.
    Raises ResourceError when the disk is full or refuses.
    """
    draw = np.random.default_rng(seed)
    kinds = {tensor.name: _kind(spec, tensor, mix) for tensor in tensors(spec)}
    with writing("file", path.name), replacement(path, ".random") as temporary:
        writer = GGUFWriter(temporary, "llama")
        try:
            _add_metadata(writer, spec, mix)
            for tensor in tensors(spec):
                _announce(writer, tensor, kinds[tensor.name])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors(spec):
                writer.write_tensor_data(_data(draw, tensor, kinds[tensor.name]))
        finally:
            writer.close()


def random_blocks(
    draw: np.random.Generator, kind: str, rows: int, cols: int
) -> npt.NDArray[np.uint8]:
    """A matrix of weights of about 1 / sqrt(cols): uint8 (rows, bytes of a row)."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    count = rows * cols // block
    words = np.empty(-(-count * size // 8), np.uint64)
    for at in range(0, len(words), PIECE):
        part = words[at : at + PIECE]
        part[:] = draw.integers(0, 1 << 64, len(part), np.uint64)
    blocks = words.view(np.uint8)[: count * size].reshape(count, size)
    halves, unit = HALVES[kind], 1 / math.sqrt(cols)
    for at, value in ((halves.scale_at, halves.scale), (halves.least_at, halves.least)):
        if at >= 0:
            blocks[:, at : at + 2] = np.array([value * unit], np.float16).view(np.uint8)
    return blocks.reshape(rows, cols // block * size)


def _kind(spec: ModelSpec, tensor: TensorSpec, mix: str) -> str:
    if tensor.kind == "norm":
        return "F32"
    parts = tensor.name.split(".")
    layer = int(parts[2]) if parts[1] == "layers" else -1
    return MIXES[mix].kind(spec, tensor.name, layer)


def _announce(writer: GGUFWriter, tensor: TensorSpec, kind: str) -> None:
    number = GGMLQuantizationType[kind]
    block, size = GGML_QUANT_SIZES[number]
    count = math.prod(tensor.shape) // block * size
    floats = np.dtype(np.float32)  # `number` decides
    writer.add_tensor_info(gguf_name(tensor.name), tensor.shape, floats, count, raw_dtype=number)


def _data(
    draw: np.random.Generator, tensor: TensorSpec, kind: str
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    if tensor.kind == "norm":
        return np.ones(tensor.shape, np.float32)
    rows, cols = tensor.shape
    return random_blocks(draw, kind, rows, cols)


def _add_metadata(writer: GGUFWriter, spec: ModelSpec, mix: str) -> None:
    writer.add_file_type(MIXES[mix].number)
    writer.add_block_count(spec.num_hidden_layers)
    writer.add_context_length(spec.max_position_embeddings)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_attention_heads)
    writer.add_head_count_kv(spec.num_key_value_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    writer.add_vocab_size(spec.vocab_size)
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(BYTES))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * BYTES]
    plain = spec.vocab_size - len(words)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*words, *(f"w{index}" for index in range(plain))])
    writer.add_token_scores([0.0] * spec.vocab_size)
    writer.add_token_types([*kinds, *[TokenType.NORMAL] * plain])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
