"""Opening hostile things in a process of their own, and what every such test expects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPENER = Path(__file__).with_name("opener.py")
LONGEST = 1000  # characters of a message


def opened(door: str, path: Path, memory: int = 256, seconds: int = 20) -> str:
    """What the process said: `opened`, or class and words of the error. `memory` in MiB."""
    result = subprocess.run(
        [sys.executable, str(OPENER), door, str(path), str(memory), str(seconds)],
        capture_output=True,
        text=True,
        timeout=20 * seconds,  # of a clock that others slow down; a hang, not a measure
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


def refused(door: str, path: Path, words: str = "", memory: int = 256, seconds: int = 20) -> None:
    """Refused by one error of ours, in few words, none of which is where the file lies."""
    said = opened(door, path, memory, seconds)
    assert said != "opened"
    assert words in said, said
    assert str(path.parent) not in said
    assert len(said) < LONGEST
