"""GGUF files as the `gguf` package writes them: from any source, in any type it can encode."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from tokenizers import Tokenizer, models, normalizers, trainers

from h2q.core.architecture import tensors
from h2q.core.ggml_types import GGML_TYPES
from h2q.core.specs import ModelSpec
from h2q.sources import Source
from stories260k import pieces

ROOT = Path(__file__).parent.parent
SEED = ROOT / "src" / "h2q" / "assets" / "seed"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NAMES = {  # as llama.cpp documents them; written down again so that a slip in the product shows
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Words:
    """A vocabulary as GGUF metadata hold it."""

    model: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str = ""
    bos: int = 1
    eos: int = 2


class RandomLlama:
    """A Source of random weights."""

    def __init__(self, vocab_size: int, tied: bool = False, width: int = 64, seed: int = 0) -> None:
        self.spec = ModelSpec(
            family="llama",
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=width + 32 if width < 256 else width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=width // 4,
            max_position_embeddings=128,
            rms_norm_eps=1e-5,
            rope_theta=10_000.0,
            tie_word_embeddings=tied,
            bos_token_id=1,
            eos_token_ids=(2,),
        )
        draw = np.random.default_rng(seed).standard_normal
        self._tensors = {
            t.name: 1 + 0.1 * draw(t.shape) if not t.coded else draw(t.shape) / 8
            for t in tensors(self.spec)
        }

    def tensor(self, name: str) -> np.ndarray:
        return self._tensors[name].astype(np.float32)


def sentencepiece_words(size: int = 600) -> Words:
    """Pieces with scores, as SentencePiece trains them: specials, bytes, merges, letters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    tokenizer.train_from_iterator([f" {word}" for line in lines for word in line.split()], trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    merged = dict.fromkeys("".join(pair) for pair in trained["merges"])
    letters = [token for token in trained["vocab"] if len(token) == 1]
    pieces = [*merged, *letters]
    return Words(
        model="llama",
        tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces],
        types=[UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)],
        scores=[0.0] * 259 + [-float(rank) for rank in range(len(pieces))],
    )


def stories_words(folder: Path) -> Words:
    """The vocabulary of stories260K."""
    tokens, scores, types = zip(*pieces(folder), strict=True)
    return Words("llama", list(tokens), list(types), list(scores))


def byte_level_words(pre: str = "gpt-2") -> Words:
    """The seed model's vocabulary."""
    model = json.loads((SEED / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    types = [CONTROL, *[NORMAL] * (len(tokens) - 1)]
    return Words("gpt2", tokens, types, merges=merges, pre=pre, bos=0, eos=0)


def gguf_name(name: str) -> str:
    head, _, _ = name.rpartition(".weight")
    if head.startswith("model.layers."):
        _, _, index, part = head.split(".", 3)
        return f"blk.{index}.{NAMES[part]}.weight"
    return f"{NAMES[head]}.weight"


def in_pairs(name: str, weights: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """As converters to GGUF turn the rows of query and key projections."""
    if name.split(".")[-2] not in ("q_proj", "k_proj"):
        return weights
    halves = weights.reshape(-1, 2, spec.head_dim // 2, weights.shape[1])
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(weights.shape))


def random_blocks(shape: tuple[int, ...], kind: Type, seed: int) -> np.ndarray:
    """Bytes of blocks of any type. Below 64 a pair of bytes is a finite float16."""
    size = quants.quant_shape_to_byte_shape(shape, kind)
    return np.random.default_rng(seed).integers(0, 64, size).astype(np.uint8)


def write_gguf(
    path: Path,
    source: Source,
    words: Words,
    kind: Type = Type.F32,
    *,
    blocks: bool = False,
    shards: int = 0,
    keys: dict[str, tuple[Any, gguf.GGUFValueType]] | None = None,
) -> dict[str, np.ndarray]:
    """Write a model; `blocks`: random blocks in place of encoded weights; `shards`: tensors per
    shard. Returns what the package itself decodes, under Hugging Face names, rows as they are in
    the file.
    """
    spec = source.spec
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=shards)
    writer.add_context_length(spec.max_position_embeddings)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_hidden_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_attention_heads)
    writer.add_head_count_kv(spec.num_key_value_heads)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_vocab_size(spec.vocab_size)
    add_words(writer, words)
    for key, (value, value_type) in (keys or {}).items():
        writer.kv_data[0].pop(key, None)
        writer.add_key_value(key, value, value_type)
    decoded = {}
    for index, tensor in enumerate(tensors(spec)):
        weights = in_pairs(tensor.name, np.asarray(source.tensor(tensor.name)), spec)
        if not tensor.coded:
            writer.add_tensor(gguf_name(tensor.name), weights)
            decoded[tensor.name] = weights
            continue
        if blocks:
            stored = random_blocks(weights.shape, kind, index)
        else:
            stored = quants.quantize(weights, kind)
        with np.errstate(all="ignore"):
            decoded[tensor.name] = quants.dequantize(stored, kind)
        writer.add_tensor(gguf_name(tensor.name), stored.view(np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return decoded


def add_words(writer: gguf.GGUFWriter, words: Words) -> None:
    """The vocabulary's keys."""
    writer.add_tokenizer_model(words.model)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.scores:
        writer.add_token_scores(words.scores)
    if words.model == "gpt2":
        writer.add_token_merges(words.merges)
    if words.pre:
        writer.add_tokenizer_pre(words.pre)
    writer.add_bos_token_id(words.bos)
    writer.add_eos_token_id(words.eos)


def decodable() -> list[Type]:
    """Every type the package decodes."""
    found = []
    for kind in GGML_TYPES.values():
        try:
            quants.dequantize(np.zeros((1, kind.bytes), np.uint8), Type(kind.number))
        except NotImplementedError:
            continue
        found.append(Type(kind.number))
    return found


def add_sizes(writer: gguf.GGUFWriter, spec: ModelSpec, config: dict[str, Any]) -> None:
    """What the metadata of every model say."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_hidden_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_attention_heads)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_rope_dimension_count(spec.rope_dim)
    writer.add_vocab_size(spec.vocab_size)
