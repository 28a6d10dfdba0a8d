"""A crystal of a few kilobytes with random planes, written in milliseconds: sound, though no model
anybody would talk to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2q.core.architecture import tensors
from h2q.core.specs import ModelSpec
from h2q.crystal import CrystalWriter
from planes import random_stack

SPEC = ModelSpec(
    family="llama",
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
    eos_token_ids=(2,),
)
REFINED = (
    ("model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
    ("model.embed_tokens.weight",),
)
REFINEMENTS = (2, 2, 2, 2)


def fill(writer: CrystalWriter, seed: int = 0) -> None:
    """All that a crystal needs but its certificate."""
    draw = np.random.default_rng(seed)
    refined = {name for group in REFINED for name in group}
    for tensor in tensors(SPEC):
        if not tensor.coded:
            writer.add_raw(tensor.name, np.ones(tensor.shape, np.float32))
        else:
            bits = (1, *REFINEMENTS) if tensor.name in refined else (1,)
            rows, cols = tensor.shape
            writer.add_planes(tensor.name, random_stack(draw, bits, rows, cols))
    writer.rank(
        [
            [(name, plane) for name in group for plane in range(1, 1 + len(REFINEMENTS))]
            for group in REFINED
        ]
    )
    writer.tokenizer("{}\n")


def write_small(target: Path, seed: int = 0, template: str | None = None) -> Path:
    """A whole crystal at `target`, in place of what was there."""
    with CrystalWriter(target, SPEC, rotation_seed=seed, overwrite=True) as writer:
        fill(writer, seed)
        writer.chat_template(template)
        writer.certificate({"format": 1})
        writer.commit()
    return target
