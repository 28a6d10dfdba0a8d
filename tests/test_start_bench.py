"""The benchmark of starts runs end to end on a small shape, and its tools tell the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from h2q import kernels
from h2q.bench import StartOptions, bench_start
from h2q.bench.file_cache import cached, chill, warm
from h2q.bench.llama_peer import installed
from h2q.bench.random_crystal import EIGHT_TOKENS, write_random
from h2q.bench.random_model import SHAPES
from h2q.core.errors import ResourceError, UsageError
from h2q.crystal import verify_crystal
from h2q.text import Tokenizer

native = pytest.mark.skipif(kernels.path() == kernels.NUMPY, reason="speed is measured natively")


@native
def test_all_rows(tmp_path: Path) -> None:
    if installed():
        pytest.skip("a peer is installed; its threads take what tests do not have")
    found = bench_start(StartOptions("trial", repeats=1, files=tmp_path))
    rows = found["results"]
    assert {
        "process start to first token, warm",
        "process start to first token, cold",
        "crystal bytes read before the first token",
        "process start to full quality, cold",
        "activation with a warm spare process",
        "a dropped plane's memory is back",
        "resident set above the promise",
    } <= set(rows)
    assert rows["resident set above the promise"]["value"] <= 0
    assert all("target" not in row for row in rows.values())
    assert found["details"]["requests"]["pages_in_use"] == 0


def test_files_become_cold_and_warm(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(3 << 20))
    warm([path])
    assert cached(path) >= 3 << 20
    try:
        chill([path])
    except ResourceError:
        pytest.skip("this file system keeps its files in memory")
    assert cached(path) == 0


def test_a_random_crystal_is_a_sound_one(tmp_path: Path) -> None:
    path = write_random(tmp_path / "m.crystal", SHAPES["trial"])
    assert all(check.ok for check in verify_crystal(path))
    tokenizer = Tokenizer(path / "tokenizer.json")
    assert len(tokenizer.encode(EIGHT_TOKENS)) == 8
    text = "Every text: \n\t ünïcödé 漢字 🙂 is bytes."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == SHAPES["trial"].vocab_size


@pytest.mark.parametrize("wrong", [{"shape": "llama-9b"}, {"only": ("speed",)}])
def test_what_does_not_exist_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Known:"):
        StartOptions(**wrong)  # type: ignore[arg-type]
