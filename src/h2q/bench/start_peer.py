"""llama.cpp loads a file and says one token, in a process of its own: FILE THREADS CONTEXT TOKENS.

Its time begins with its own call to load: neither Python nor importing its package counts.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(path: Path, threads: int, context: int, tokens: int) -> None:
    from h2q.bench.llama_peer import LlamaLibrary, LlamaPeer
    from h2q.core.memory import peak_rss_bytes

    library = LlamaLibrary()
    before = peak_rss_bytes()
    began = time.perf_counter()
    peer = LlamaPeer(library, path, context, threads, first=False)
    loaded = time.perf_counter() - began
    peer.prefill(range(3, 3 + tokens))
    found = {
        "seconds": time.perf_counter() - began,
        "loaded": loaded,
        "peak": peak_rss_bytes(),
        "before": before,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    peer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
