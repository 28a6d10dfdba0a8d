"""The same weights in Hugging Face transformers, float32."""

from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from h2q.core.architecture import tensors
from h2q.sources import Source


def transformers_logits(source: Source, tokens: np.ndarray) -> np.ndarray:
    """Logits of int64 (B, T) tokens: float32 (B, T, vocab_size)."""
    spec = source.spec
    fields = {**spec.to_json(), "bos_token_id": None, "eos_token_id": None}
    for name in ("family", "eos_token_ids"):
        del fields[name]
    model = LlamaForCausalLM(LlamaConfig(**fields, attn_implementation="eager")).eval().float()
    state = {t.name: torch.tensor(np.array(source.tensor(t.name))) for t in tensors(spec)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.numpy()
