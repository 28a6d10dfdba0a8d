"""Opening hostile things in a process of their own, and what every such test expects."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path

OPENER = Path(__file__).with_name("opener.py")
LONGEST = 1000  # characters of a message


@functools.cache
def opener() -> subprocess.Popen[str]:
    """The process that forks for every door: it imports once. It ends with this one."""
    process = subprocess.Popen(
        [sys.executable, str(OPENER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)  # no more lines: it ends
    return process


def opened(door: str, path: Path, memory: int = 256, seconds: int = 20) -> str:
    """What the process said: `opened`, or class and words of the error. `memory` in MiB."""
    process = opener()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps((door, str(path), memory, seconds)) + "\n")
    process.stdin.flush()
    # Of a clock that others slow down; a hang, not a measure.
    alarm = threading.Timer(20 * seconds, process.kill)
    alarm.start()
    try:
        answer = process.stdout.readline()
    finally:
        alarm.cancel()
    if not answer:
        opener.cache_clear()
        raise AssertionError("the door was never answered")
    code, out, err = json.loads(answer)
    assert code == 0, (code, err[-2000:])
    return str(out).strip()


def refused(door: str, path: Path, words: str = "", memory: int = 256, seconds: int = 20) -> None:
    """Refused by one error of ours, in few words, none of which is where the file lies."""
    said = opened(door, path, memory, seconds)
    assert said != "opened"
    assert words in said, said
    assert str(path.parent) not in said
    assert len(said) < LONGEST
