"""Makes the golden logits with transformers: python tests/golden/make_golden.py SHARED_FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "peers")]

from expert_models import folder_logits  # noqa: E402
from transformers_model import transformers_logits  # noqa: E402

from expert_configs import CONFIGS, write_model  # noqa: E402
from h2q.sources import Source, open_source  # noqa: E402
from stories260k import Stories  # noqa: E402

LENGTH, KEPT = 48, 3


def make(name: str, source: Source) -> None:
    tokens = np.random.default_rng(1).integers(0, source.spec.vocab_size, (1, LENGTH))
    logits = transformers_logits(source, tokens)[:, -KEPT:]
    np.savez_compressed(HERE / f"{name}.npz", tokens=tokens, logits=logits)


def make_experts() -> None:
    """All models of `expert_configs`, which draw their weights from a seed, in one file."""
    found = {}
    with TemporaryDirectory() as place:
        for name, (_, fields) in CONFIGS.items():
            folder = write_model(Path(place) / name, name)
            tokens = np.random.default_rng(1).integers(0, fields["vocab_size"], (1, LENGTH))
            found[f"{name}.tokens"] = tokens
            found[name] = folder_logits(folder, tokens)[:, -KEPT:]
    np.savez_compressed(HERE / "experts.npz", **found)


if __name__ == "__main__":
    make_experts()
    make("seed", open_source(HERE.parents[1] / "src" / "h2q" / "assets" / "seed"))
    make("stories260k", Stories(Path(sys.argv[1]) / "models" / "stories260K"))
