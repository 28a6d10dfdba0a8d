"""What every target does: write seeds, so that the search begins beyond the first bytes; run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

TESTS = Path(__file__).parents[1]
# atheris instruments only what the common loader of Python finds; that of an editable install is
# passed over, and the search would be blind. None of the targets needs the extension.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Scikit" not in type(finder).__name__]
sys.path.insert(0, str(TESTS.parent / "src"))


def fuzz(name: str, one_input: Callable[[bytes], None], seeds: dict[str, bytes]) -> None:
    """Search until libFuzzer's limits (the command line) end it; what it finds interesting is kept
    in build/fuzz/NAME and is where the next run begins.
    """
    corpus = Path("build", "fuzz", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for title, data in seeds.items():
        (corpus / title).write_bytes(data)
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()
