"""Options that several commands share, and reading what they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.parameters import Argument, Option
from h2q.core.errors import TextError

MAX_TEXT_BYTES = 1 << 30
SEED_NAME = "seed"

named: dict[Path, str] = {}  # folders of crystals, by which installed names they were asked for

Json = Annotated[bool, Option("--json", help="One JSON document last on stdout.")]
SOURCES = "A Hugging Face folder, a .gguf file, hf:org/name, ollama:name, or `seed`."


def crystal_place(text: str) -> Path:
    """The folder of a crystal: as it is named, else that of the installed model of that name.
    Raises CrystalError when that one is damaged.
    """
    path = Path(text)
    if path.exists():
        return path
    from h2q.core.errors import MissingModelError, UsageError
    from h2q.crystal.store import Store

    store = Store()
    try:
        model = store.find(text)
        named[store.folder(model)] = str(model.name)
        return store.folder(model)
    except (MissingModelError, UsageError):
        return path  # whoever opens it says that nothing is there


CrystalPath = Annotated[
    Path,
    Argument(
        metavar="CRYSTAL", help="A crystal's folder, or an installed name.", parser=crystal_place
    ),
]


def source_place(name: str) -> str | Path:
    """What open_source takes; the word `seed` names the small model that comes with the package."""
    if name == SEED_NAME and not Path(name).exists():
        return Path(__file__).parent.parent / "assets" / "seed"
    return name


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
