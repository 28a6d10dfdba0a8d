"""A process that writes small crystals: over and over until it is killed, or once on a disk that is
full from a chosen step on.
"""

from __future__ import annotations

import itertools
import resource
import signal
import sys
from pathlib import Path

from h2q.core.errors import H2QError
from h2q.crystal import CrystalWriter

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_crystals import SPEC, fill, write_small

LATE = 10  # bytes a file may have once the disk is called full


def fill_disk(limit: int) -> None:
    """The limit of file size stands in for a full disk: the same call fails in the same way."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


class LateText(str):
    """A tokenizer that fills the disk when it is written."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        fill_disk(LATE)
        return super().encode(encoding, errors)


def write_once(target: Path, step: str) -> None:
    with CrystalWriter(target, SPEC, rotation_seed=9, overwrite=True) as writer:
        fill(writer, seed=9)
        writer.certificate({"format": 1, "pad": "x" * LATE})
        if step == "tokenizer.json":
            writer.tokenizer(LateText("{" + " " * LATE + "}"))
        elif step in ("chat_template.jinja", "crystal.json"):
            writer.tokenizer(LateText("{}"))
            writer.chat_template("x" * LATE * 2 if step == "chat_template.jinja" else None)
        elif step != "certificate.json":
            fill_disk(int(step))
        writer.stage()
        if step == "certificate.json":
            fill_disk(LATE)
        writer.commit()


def main(target: Path, step: str) -> None:
    try:
        for seed in itertools.count():
            if step:
                write_once(target, step)
            else:
                write_small(target, seed % 2, "x" * (seed % 2) or None)
            print("written", flush=True)
    except H2QError as error:
        print(type(error).__name__, error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
