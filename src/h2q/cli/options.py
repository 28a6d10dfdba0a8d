"""Options that several commands share, and reading what they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from h2q.core.errors import TextError

MAX_TEXT_BYTES = 1 << 30
SEED_NAME = "seed"

Json = Annotated[bool, typer.Option("--json", help="One JSON document last on stdout.")]
CrystalPath = Annotated[Path, typer.Argument(metavar="CRYSTAL", help="A crystal's folder.")]


def source_path(name: str) -> Path:
    """Where a model is; the word `seed` names the small one that comes with the package."""
    if name == SEED_NAME and not Path(name).exists():
        return Path(__file__).parent.parent / "assets" / "seed"
    return Path(name)


def read_text(path: Path) -> str:
    """UTF-8 text, plain or .xz. Raises TextError."""
    import lzma

    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise TextError("The text is larger than 1 GiB.", where=path.name)
        return data.decode("utf-8")
    except OSError as error:
        raise TextError(f"The text cannot be read: {error.strerror}.", where=path.name) from error
    except (UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        raise TextError(
            "The file is not UTF-8 text.",
            where=path.name,
            fix="Give plain text, or text packed by xz.",
        ) from error
