"""Writes a Hugging Face folder of a llama with random weights, as large as one likes: for measuring
time and memory, not quality.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np

from h2q.codec.planes import to_bfloat16
from h2q.core.architecture import tensors
from h2q.core.specs import ModelSpec

SEED_MODEL = Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed"
SPEC = ModelSpec(  # 1.1 B parameters
    family="llama",
    vocab_size=32_000,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    tie_word_embeddings=False,
    bos_token_id=0,
    eos_token_ids=(1,),
)


def write_random_llama(folder: Path, spec: ModelSpec = SPEC, seed: int = 0) -> None:
    """bfloat16 weights of deviation 1 / sqrt(width), norms of ones, the seed model's tokenizer, one
    tensor in memory at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SEED_MODEL / "tokenizer.json", folder)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        **{k: v for k, v in spec.to_json().items() if k not in ("family", "eos_token_ids")},
        "eos_token_id": spec.eos_token_ids[0],
    }
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for tensor in tensors(spec):
        size = 2 * math.prod(tensor.shape)
        offsets = [at, at + size]
        header[tensor.name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}
        at += size
    text = json.dumps(header).encode()
    random = np.random.default_rng(seed)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors(spec):
            values = np.ones(tensor.shape, np.float32)
            if tensor.kind != "norm":
                values = random.standard_normal(tensor.shape, np.float32)
                values *= np.float32(1 / math.sqrt(tensor.shape[-1]))
            file.write(to_bfloat16(values).data)
