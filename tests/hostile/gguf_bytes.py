"""GGUF files byte by byte, so that every count, length and offset can lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B"}
CODES |= {U64: "Q", I64: "q", F64: "d"}
WIDTH, INNER = 32, 32
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "ab"]
TYPES = [2, 3, 3, *[6] * 256, 1, 1, 1, 1]
SCORES = [0.0] * 259 + [-3.0, -1.0, -2.0, -0.5]


def text(value: str | bytes, length: int | None = None) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if length is None else length) + data


def value(kind: int, content: object) -> bytes:
    if kind == STRING:
        return text(content)  # type: ignore[arg-type]
    return struct.pack("<" + CODES[kind], content)


def entry(key: str | bytes, kind: int, content: object) -> bytes:
    return text(key) + struct.pack("<I", kind) + value(kind, content)


def array(
    key: str, kind: int, items: list[object], count: int | None = None, outer: int = ARRAY
) -> bytes:
    count = len(items) if count is None else count
    body = b"".join(value(kind, item) for item in items)
    return text(key) + struct.pack("<IIQ", outer, kind, count) + body


@dataclass
class Tensor:
    name: str | bytes
    shape: tuple[int, ...]
    kind: int = 0
    offset: int | None = None
    data: bytes | None = None
    rank: int | None = None

    def body(self) -> bytes:
        if self.data is not None:
            return self.data
        draw = np.random.default_rng(len(self.name)).standard_normal(int(np.prod(self.shape)))
        return draw.astype("<f4").tobytes()


@dataclass
class File:
    """A small sound llama; change what should be wrong, then take its bytes."""

    magic: bytes = b"GGUF"
    version: int = 3
    keys: dict[str, bytes] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    tensor_count: int | None = None
    key_count: int | None = None
    alignment: int = 32
    tail: bytes = b""

    def __post_init__(self) -> None:
        numbers = {
            "context_length": 64,
            "embedding_length": WIDTH,
            "block_count": 1,
            "feed_forward_length": INNER,
            "attention.head_count": 2,
            "attention.head_count_kv": 1,
            "rope.dimension_count": 16,
            "vocab_size": len(WORDS),
        }
        self.put("general.architecture", STRING, "llama")
        for name, number in numbers.items():
            self.put(f"llama.{name}", U32, number)
        self.put("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)
        self.put("tokenizer.ggml.model", STRING, "llama")
        self.put_array("tokenizer.ggml.tokens", STRING, WORDS)
        self.put_array("tokenizer.ggml.scores", F32, SCORES)
        self.put_array("tokenizer.ggml.token_type", I32, TYPES)
        self.put("tokenizer.ggml.bos_token_id", U32, 1)
        self.put("tokenizer.ggml.eos_token_id", U32, 2)
        self.tensors = [
            Tensor("token_embd.weight", (WIDTH, len(WORDS))),
            Tensor("blk.0.attn_norm.weight", (WIDTH,)),
            Tensor("blk.0.attn_q.weight", (WIDTH, 32)),
            Tensor("blk.0.attn_k.weight", (WIDTH, 16)),
            Tensor("blk.0.attn_v.weight", (WIDTH, 16)),
            Tensor("blk.0.attn_output.weight", (32, WIDTH)),
            Tensor("blk.0.ffn_norm.weight", (WIDTH,)),
            Tensor("blk.0.ffn_gate.weight", (WIDTH, INNER)),
            Tensor("blk.0.ffn_up.weight", (WIDTH, INNER)),
            Tensor("blk.0.ffn_down.weight", (INNER, WIDTH)),
            Tensor("output_norm.weight", (WIDTH,)),
        ]

    def put(self, key: str, kind: int, content: object) -> None:
        self.keys[key] = entry(key, kind, content)

    def put_array(self, key: str, kind: int, items: list[object], count: int | None = None) -> None:
        self.keys[key] = array(key, kind, items, count)

    def bytes(self) -> bytes:
        rows, data = b"", b""
        for tensor in self.tensors:
            offset = len(data) if tensor.offset is None else tensor.offset
            rank = len(tensor.shape) if tensor.rank is None else tensor.rank
            rows += text(tensor.name) + struct.pack("<I", rank)
            rows += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
            rows += struct.pack("<IQ", tensor.kind, offset)
            data += tensor.body()
            data += bytes(-len(data) % self.alignment)
        tensors = len(self.tensors) if self.tensor_count is None else self.tensor_count
        keys = len(self.keys) if self.key_count is None else self.key_count
        header = self.magic + struct.pack("<IQQ", self.version, tensors, keys)
        header += b"".join(self.keys.values()) + rows
        return header + bytes(-len(header) % self.alignment) + data + self.tail
