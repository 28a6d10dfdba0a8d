"""A folder of any family in Hugging Face transformers, float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM


def folder_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Logits of int64 (B, T) tokens: float32 (B, T, vocab_size)."""
    fields = json.loads((folder / "config.json").read_text())
    config = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    missing, unexpected = model.load_state_dict(
        load_file(folder / "model.safetensors"), strict=False
    )
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    with torch.no_grad():
        return model(torch.from_numpy(tokens), use_cache=False).logits.numpy()
