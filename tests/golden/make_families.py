"""Makes the golden logits of every family: python tests/golden/make_families.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "peers")]

from families_model import folder_logits  # noqa: E402

from families import SPECIAL, write_family  # noqa: E402

LENGTH, KEPT = 40, 2


def main() -> None:
    out = {}
    tokens = np.random.default_rng(1).integers(0, 96, (1, LENGTH))
    with tempfile.TemporaryDirectory() as folder:
        for name in SPECIAL:
            write_family(Path(folder) / name, name)
            out[name] = folder_logits(Path(folder) / name, tokens)[0, -KEPT:]
    np.savez_compressed(HERE / "families.npz", tokens=tokens, **out)


if __name__ == "__main__":
    main()
