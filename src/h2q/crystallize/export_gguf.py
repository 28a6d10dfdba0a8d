"""Writes a model of the llama family as a GGUF file, by the `gguf` package's writer: one tensor in
memory at a time, the file in its place only when it is whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from h2q.core.architecture import tensors
from h2q.core.disk import replacement, writing
from h2q.core.errors import QualityError, UsageError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.files import plain_file
from h2q.core.specs import OPTIONAL, ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.sources.gguf_names import file_rows, gguf_name
from h2q.sources.gguf_vocabulary import SENTENCEPIECE, UNKNOWN, Vocabulary

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

FloatArray = npt.NDArray[np.float32]
RowReader = Callable[[npt.NDArray[np.int64]], FloatArray]
SUFFIX = ".exporting"
MAGIC = b"GGUF"
STRIP = 1 << 20  # weights made at a time; bounds what is held besides the tensor being written
TURN_TYPES = ("eos", "eot", "eom")  # the keys that can hold a token that ends a generation


@dataclass(frozen=True)
class WeightType:
    """How matrices are stored: ggml's name, llama.cpp's number of such a file, weights per block,
    and the largest magnitude that can be held.
    """

    name: str
    file_type: int
    block: int
    largest: float


_HALF = float(np.finfo(np.float16).max)
WEIGHT_TYPES = {
    "f16": WeightType("F16", 1, 1, _HALF),
    "q8_0": WeightType("Q8_0", 7, 32, 127 * _HALF),
    "f32": WeightType("F32", 0, 1, float(np.finfo(np.float32).max)),
}


class Weights(Protocol):
    """Where the numbers come from."""

    def norm(self, name: str) -> FloatArray:
        """A vector, float32."""
        ...

    def rows(self, tensor: TensorSpec) -> RowReader:
        """What gives chosen rows of a matrix: int64 (n,) to float32 (n, cols)."""
        ...


@dataclass(frozen=True)
class Exportable:
    """A model to be written."""

    name: str
    spec: ModelSpec
    weights: Weights
    vocabulary: Vocabulary
    chat_template: str | None = None


@dataclass(frozen=True)
class Exported:
    """What was written: bytes of the file, of its tensors alone, and the names of tensors whose
    rows are no whole blocks of the wanted type and were stored in F16.
    """

    type: str
    bytes: int
    tensor_bytes: int
    wider: tuple[str, ...]


def weight_type(name: str) -> WeightType:
    """Raises UsageError on a name that is none."""
    if name.lower() not in WEIGHT_TYPES:
        raise UsageError(
            f"There is no type {name!r} to export to.", fix=f"Choose {', '.join(WEIGHT_TYPES)}."
        )
    return WEIGHT_TYPES[name.lower()]


def require_free(target: Path, overwrite: bool) -> None:
    """Raises UsageError when something stands at the target that may not be replaced,
    ResourceError when the system refuses to look.
    """
    with writing("file", target.name):
        there, folder = target.exists(), target.is_dir()
    if folder:
        raise UsageError("The target is a folder.", where=target.name, fix="Name a file.")
    if not there:
        return
    if not overwrite:
        raise UsageError(
            "There is already something at the target.",
            where=target.name,
            fix="Choose another name, or replace it with --overwrite.",
        )
    with plain_file(target, UsageError) as (file, _):
        if file.read(len(MAGIC)) != MAGIC:
            raise UsageError(
                "The target is not a GGUF file; it is not replaced.", where=target.name
            )


def require_spelled(spec: ModelSpec) -> None:
    """Raises UsageError for a model whose differences from llama are not written yet."""
    others = [name for name in OPTIONAL if name in spec.to_json()]
    if spec.family != "llama" or others:
        raise UsageError(
            f"A model of the family {spec.family} cannot be exported by this version.",
            where=", ".join(sorted(others)),
            fix="Export writes llamas without scaled positions.",
        )


def write_gguf(
    target: Path, model: Exportable, kind: WeightType, progress: ProgressListener = silent
) -> Exported:
    """Write a model to `target`, in place of what is there.

    Raises UsageError where the family cannot be written, QualityError when a weight is too large
    for the type, ResourceError when the disk is full or refuses, SourceError or CrystalError when a
    tensor cannot be read.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    require_spelled(model.spec)
    described = [(tensor, _stored(tensor, kind)) for tensor in tensors(model.spec)]
    total = sum(math.prod(tensor.shape) for tensor, _ in described)
    done = tensor_bytes = 0
    with writing("file", target.name), replacement(target, SUFFIX) as path:
        writer = GGUFWriter(path, model.spec.family)
        try:
            _add_metadata(writer, model, kind)
            for tensor, of in described:
                _announce(writer, tensor, GGMLQuantizationType[of.name])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor, of in described:
                stored = _encoded(tensor, of, model, GGMLQuantizationType[of.name])
                writer.write_tensor_data(stored)
                tensor_bytes += stored.nbytes
                done += math.prod(tensor.shape)
                progress(Progress("write tensors", done, total, "weights"))
        finally:
            writer.close()
        size = path.stat().st_size
    wider = tuple(t.name for t, of in described if t.coded and of is not kind)
    return Exported(kind.name, size, tensor_bytes, wider)


def _stored(tensor: TensorSpec, kind: WeightType) -> WeightType:
    if not tensor.coded:
        return WEIGHT_TYPES["f32"]
    return WEIGHT_TYPES["f16"] if tensor.shape[-1] % kind.block else kind


def _announce(writer: GGUFWriter, tensor: TensorSpec, kind: GGMLQuantizationType) -> None:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    writer.add_tensor_info(
        gguf_name(tensor.name),
        tensor.shape,
        np.dtype(np.float32),  # `kind` decides
        math.prod(tensor.shape) // block * size,
        raw_dtype=kind,
    )


def _encoded(
    tensor: TensorSpec, of: WeightType, model: Exportable, kind: GGMLQuantizationType
) -> npt.NDArray[Any]:
    """A tensor as it lies in the file: float32, float16, or bytes of blocks."""
    from gguf import quants

    if not tensor.coded:
        return np.ascontiguousarray(model.weights.norm(tensor.name), np.float32)
    rows, cols = tensor.shape
    read, order = model.weights.rows(tensor), file_rows(tensor.name, rows, model.spec)
    step = max(1, STRIP // cols)
    out: npt.NDArray[Any] | None = None
    for first in range(0, rows, step):
        strip = read(order[first : first + step])
        if not np.abs(strip).max() <= of.largest:  # NaN is no number at most this large
            raise QualityError(
                f"A weight does not fit into {of.name}.",
                where=tensor.name,
                fix="Export to f32, which holds every finite weight.",
            )
        part = quants.quantize(strip, kind)
        if out is None:
            out = np.empty((rows, part.shape[1]), part.dtype)
        out[first : first + len(part)] = part
    assert out is not None  # a shape has no zeros
    return out


def _add_metadata(writer: GGUFWriter, model: Exportable, kind: WeightType) -> None:
    from gguf.constants import GGML_QUANT_VERSION

    spec, words = model.spec, model.vocabulary
    writer.add_type("model")
    writer.add_name(model.name)
    writer.add_file_type(kind.file_type)
    if kind.block > 1:
        writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_context_length(spec.max_position_embeddings)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_hidden_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_attention_heads)
    writer.add_head_count_kv(spec.num_key_value_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    _add_words(writer, words)
    if model.chat_template:
        writer.add_chat_template(model.chat_template)


def _add_words(writer: GGUFWriter, words: Vocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    if words.model == SENTENCEPIECE:
        writer.add_token_scores(list(words.scores))
        writer.add_add_space_prefix(words.add_space_prefix)
    else:
        writer.add_token_merges(list(words.merges))
    if words.bos is not None:
        writer.add_bos_token_id(words.bos)
    for kind, token in zip(TURN_TYPES, words.stops, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", token)
    unknown = next((i for i, kind in enumerate(words.types) if kind == UNKNOWN), None)
    if unknown is not None:
        writer.add_unk_token_id(unknown)
    writer.add_add_bos_token(bool(words.add_bos))
    writer.add_add_eos_token(words.add_eos)
