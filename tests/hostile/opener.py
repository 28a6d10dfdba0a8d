"""A process that opens hostile things, each in a fork with little memory and time, and says what
came of them.

A line of JSON on the standard input asks, a line on the standard output answers. The memory that a
fork may use beyond what the imports took, and its seconds of processor time, stand in the line: a
bomb ends the fork by MemoryError or a signal, and no error of ours is told.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from h2q.core.errors import H2QError
from h2q.crystal import open_crystal, verify_crystal
from h2q.engine import load_crystal
from h2q.sources import open_source
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.ollama_store import find_model
from h2q.text import Tokenizer

MIB = 1 << 20


def open_checkpoint(path: Path) -> None:
    source = open_source(path)
    source.chat_template()
    Tokenizer.from_json(source.tokenizer_json()).encode("a short text " * 10)


def open_store(path: Path) -> None:
    GGUFSource(find_model("tiny", [path]).path)


def check_crystal(path: Path) -> None:
    for check in verify_crystal(path):
        if not check.ok:
            raise H2QError(check.detail)


DOORS: dict[str, Callable[[Path], object]] = {
    "source": open_checkpoint,
    "store": open_store,
    "crystal": lambda path: load_crystal(open_crystal(path)),
    "verify": check_crystal,
    "tokenizer": lambda path: Tokenizer(path).encode("a short text " * 10 + "a" * 40 + "b"),
}


def try_door(door: str, path: Path, memory: int, seconds: int) -> None:
    status = Path("/proc/self/statm")
    if status.exists():  # macOS does not hold to the limit; there only the time is bounded
        now = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory * MIB, now + memory * MIB))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + seconds,) * 2)
    try:
        DOORS[door](path)
    except H2QError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    else:
        print("opened", flush=True)


def forked(door: str, path: str, memory: int, seconds: int) -> tuple[int, str, str]:
    """Exit code, negative after a signal, and what was written to either stream."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                try_door(door, Path(path), memory, seconds)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for stream in (out, err):
            stream.seek(0)
        return code, *(stream.read().decode(errors="replace") for stream in (out, err))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)
