"""Reads stories260K (llama2.c's .bin layout) as a source: a fixture, not a product format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from h2q.core.specs import ModelSpec

HEADER = 7
Piece = tuple[str, float, int]


class Stories:
    """A Source, its tokenizer aside. The file holds rotary pairs side by side; Hugging Face keeps
    halves.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "stories260K.bin"
        sizes = np.fromfile(path, np.int32, HEADER)
        width, inner, layers, heads, shared, vocabulary, context = map(int, sizes)
        self.spec = ModelSpec(
            family="llama",
            vocab_size=abs(vocabulary),
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=shared,
            head_dim=width // heads,
            max_position_embeddings=context,
            rms_norm_eps=1e-5,
            rope_theta=10_000.0,
            tie_word_embeddings=vocabulary > 0,
            bos_token_id=1,
            eos_token_ids=(2,),
        )
        keys = shared * (width // heads)
        parts = {
            "embed_tokens": (1, abs(vocabulary), width),
            "input_layernorm": (layers, width),
            "self_attn.q_proj": (layers, width, width),
            "self_attn.k_proj": (layers, keys, width),
            "self_attn.v_proj": (layers, keys, width),
            "self_attn.o_proj": (layers, width, width),
            "post_attention_layernorm": (layers, width),
            "mlp.gate_proj": (layers, inner, width),
            "mlp.down_proj": (layers, width, inner),
            "mlp.up_proj": (layers, inner, width),
            "norm": (1, width),
        }
        values = np.fromfile(path, np.float32, offset=4 * HEADER)
        self._tensors: dict[str, np.ndarray] = {}
        at = 0
        for name, shape in parts.items():
            stack = values[at : at + int(np.prod(shape))].reshape(shape)
            at += stack.size
            for index, tensor in enumerate(stack):
                if name in ("embed_tokens", "norm"):
                    self._tensors[f"model.{name}.weight"] = tensor
                else:
                    turned = self._halves(tensor) if name[-6:] in ("q_proj", "k_proj") else tensor
                    self._tensors[f"model.layers.{index}.{name}.weight"] = turned

    def tensor(self, name: str) -> np.ndarray:
        return self._tensors[name]

    def _halves(self, weights: np.ndarray) -> np.ndarray:
        pairs = weights.reshape(-1, self.spec.head_dim // 2, 2, weights.shape[1])
        return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3).reshape(weights.shape))


def pieces(folder: Path) -> list[Piece]:
    """Text, score and type of every piece of tok512.model, a SentencePiece protocol buffer."""
    found = []
    for number, value in fields((folder / "tok512.model").read_bytes()):
        if number == 1:
            entry = dict(fields(value))
            score = struct.unpack("<f", entry.get(2, bytes(4)))[0]
            found.append((entry[1].decode(), score, entry.get(3, b"\1")[0]))
    return found


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the fields of a protocol buffer message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint().to_bytes(8, "little")
            continue
        size = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, data[at : at + size]
        at += size
