"""A GGUF file's logits, ours and llama.cpp's, along llama.cpp's own greedy text."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np

from h2q.engine import load_original
from h2q.sources.gguf_file import GGUFSource

PROMPT, COUNT = 20, 16


def worst_difference(path: Path, vocabulary: int) -> float:
    """Largest difference of a logit over the row's largest, one at least. Where llama.cpp is sure
    of a token, ours must be the same.
    """
    theirs = llama_cpp.Llama(
        str(path), n_ctx=64, logits_all=True, flash_attn=False, type_k=0, type_v=0, verbose=False
    )
    model = load_original(GGUFSource(path))
    tokens = np.random.default_rng(5).integers(0, vocabulary, PROMPT).tolist()
    worst = 0.0
    try:
        theirs.eval(tokens)
        for _ in range(COUNT):
            ours = model.forward(np.array([tokens]), model.new_cache(), last=True)[0, -1]
            row = np.array(theirs.scores[len(tokens) - 1])
            worst = max(worst, float(np.abs(ours - row).max() / max(1.0, np.abs(row).max())))
            second, first = np.sort(row)[-2:]
            if first - second > 1e-2:
                assert int(ours.argmax()) == int(row.argmax())
            tokens.append(int(row.argmax()))
            theirs.eval(tokens[-1:])
    finally:
        theirs.close()
    return worst
