"""chat_template.jinja: how a conversation becomes text. Stored and checked here, never rendered."""

from __future__ import annotations

from pathlib import Path

from h2q.core.errors import CrystalError
from h2q.core.files import read_bounded

NAME = "chat_template.jinja"
MAX_BYTES = 1 << 20


def template_bytes(text: str) -> bytes:
    """The file's content. Raises CrystalError when it is too large or cannot be UTF-8."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CrystalError("The chat template is not Unicode text.", where=NAME) from error
    if len(data) > MAX_BYTES:
        raise CrystalError(f"The chat template exceeds {MAX_BYTES:,} bytes.", where=NAME)
    return data


def read_template(folder: Path) -> str | None:
    """The template of a crystal, None where it has none. Raises CrystalError."""
    path = folder / NAME
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return read_bounded(path, MAX_BYTES, CrystalError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CrystalError("The chat template is not UTF-8 text.", where=NAME) from error
