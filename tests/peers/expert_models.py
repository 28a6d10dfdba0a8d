"""Folders read and run by Hugging Face transformers, float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def folder_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Logits of int64 (B, T) tokens: float32 (B, T, vocab_size). Every tensor of the folder is
    used, and none is missing.
    """
    model, told = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        return model.eval()(torch.from_numpy(tokens)).logits.numpy()
