"""A fingerprint follows everything that decides what a source gives, and reads little."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import edit_config
from conftest import SEED
from gguf_files import RandomLlama, sentencepiece_words, write_gguf
from h2q.core.errors import SourceError
from h2q.sources import open_source
from h2q.sources.fingerprint import _pieces, fingerprint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "model"))


def change_a_byte(model: Path) -> None:
    """A weight changed, and the time set back."""
    path = model / "model.safetensors"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy(model: Path) -> None:
    path = model / "model.safetensors"
    path.rename(model / "old")
    shutil.copy2(model / "old", path)


@pytest.mark.parametrize(
    "change",
    [
        change_a_byte,
        copy,
        lambda model: (model / "model.safetensors").touch(),
        lambda model: edit_config(model, rms_norm_eps=2e-6),
        lambda model: (model / "chat_template.jinja").write_text("{{ messages }}"),
        lambda model: (model / "tokenizer.json").write_bytes(
            (model / "tokenizer.json").read_bytes() + b"\n"
        ),
    ],
)
def test_a_change_is_seen(model: Path, change: Callable[[Path], object]) -> None:
    before = fingerprint(open_source(model))
    assert fingerprint(open_source(model)) == before
    model = model.rename(model.with_name("moved"))
    assert fingerprint(open_source(model)) == before
    change(model)
    assert fingerprint(open_source(model)) != before


def test_gguf_files_have_one(tmp_path: Path) -> None:
    words = sentencepiece_words()
    path = tmp_path / "m.gguf"
    write_gguf(path, RandomLlama(len(words.tokens)), words)
    source = open_source(path)
    assert source.files() == (path,)
    before = fingerprint(source)
    path.touch()
    assert fingerprint(source) != before
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        fingerprint(source)


@given(st.one_of(st.integers(0, 20 << 20), st.integers(0, 1 << 44)))
def test_pieces_lie_within_the_file_and_do_not_overlap(size: int) -> None:
    pieces = _pieces(size)
    at = 0
    for begin, length in pieces:
        assert begin >= at
        at = begin + length
    assert pieces[0][0] == 0
    assert at == size
    assert sum(length for _, length in pieces) <= 6 << 20
