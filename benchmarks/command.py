"""What the commands of this folder have in common: their options, their document, their errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h2q.bench import slug, write_result
from h2q.core.errors import H2QError


def nothing(_: argparse.ArgumentParser) -> None:
    """No option of its own."""


def run(
    name: str,
    about: str | None,
    folder: Path,
    work: Callable[[argparse.Namespace], dict[str, Any]],
    own: Callable[[argparse.ArgumentParser], None] = nothing,
) -> int:
    """Do the work of a command and return its exit code. about: what it says of itself. folder: for
    what may be used again, unless another is given. work: gives the document that `--out` keeps as
    NAME-MACHINE.json. own: adds options.
    """
    parser = argparse.ArgumentParser(description=about)
    own(parser)
    parser.add_argument("--folder", type=Path, default=folder)
    parser.add_argument("--out", type=Path, help="a folder such as benchmarks/results")
    options = parser.parse_args()
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        document = work(options)
        if options.out is not None:
            write_result(options.out / f"{name}-{slug()}.json", document)
    except H2QError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
