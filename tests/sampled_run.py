"""A process of its own that keeps a promise of memory: CRYSTAL BYTES [limited].

Watches its resident set while it says a long text; with `limited` under a kernel limit of as much.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

from h2q.runtime import HotStartManager
from h2q.runtime.process import peak_rss_bytes, rss_bytes
from talking import asked

TOKENS, RING = 600, 192
CGROUP = Path("/sys/fs/cgroup/memory")


def limit(count: int) -> bool:
    """Let the kernel hold this process to so many bytes; whether it can."""
    for root, name in ((CGROUP, "memory.limit_in_bytes"), (CGROUP.parent, "memory.max")):
        group = root / f"h2q-test-{os.getpid()}"
        try:
            if not (root / "cgroup.procs").exists():
                continue
            group.mkdir()
            (group / name).write_text(str(count))
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue
        return True
    return False


def leave() -> None:
    for root in (CGROUP, CGROUP.parent):
        group = root / f"h2q-test-{os.getpid()}"
        if group.is_dir():
            (root / "cgroup.procs").write_text(str(os.getpid()))
            group.rmdir()


def main(path: str, memory: int, how: str) -> None:
    limited = how == "limited" and limit(memory)
    most, ended = [0], threading.Event()
    samples = [0]

    def watch() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], rss_bytes())
            samples[0] += 1

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    service = HotStartManager().start(Path(path), ring=RING, memory=memory)
    ends = service.started.model.spec.eos_token_ids
    ask = replace(asked("Once upon a time", TOKENS, 0.9, seed=1, unheard=ends), ring=RING)
    tokens = []
    try:
        for event in service.generate(ask):
            tokens.append(event.token)
    finally:
        ended.set()
        watcher.join()
    found = {
        "memory": memory,
        "tokens": len(tokens) - 1,
        "most": most[0],
        "samples": samples[0],
        "peak": peak_rss_bytes(),
        "planes": service.started.planes,
        "all_planes": service.started.all_planes,
        "limit": limited,
        "warning": service.started.warning,
    }
    service.close()
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:]))
    finally:
        leave()
