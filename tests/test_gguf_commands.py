"""A GGUF file from the command line: grown, shown, spoken with, measured against."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from gguf_files import ROOT, RandomLlama, byte_level_words, sentencepiece_words, write_gguf
from test_commands import document, h2q


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_a_file_becomes_a_crystal(tmp_path: Path, kind: str) -> None:
    words = sentencepiece_words() if kind == "sentencepiece" else byte_level_words("llama-bpe")
    file, target = tmp_path / "model.gguf", tmp_path / "my.crystal"
    write_gguf(file, RandomLlama(len(words.tokens), tied=True), words, Type.Q8_0)
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "CONTRIBUTING.md").read_text())
    options = ("--ratio", "4", "--calibration", text, "--json")
    certificate = document(h2q("crystallize", file, "-o", target, *options))
    assert certificate["ratio_fp32"] >= 4
    assert document(h2q("verify", target, "--json"))["ok"] is True
    measured = document(
        h2q("eval", target, "--against", file, "--text", text, "--tokens", "600", "--json")
    )
    assert 0 < measured["quality"] < 1.1
    spoken = document(h2q("run", target, "The house", "--max-tokens", "5", "--json"))
    assert spoken["tokens"] == 5


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    result = h2q("crystallize", tmp_path / "model.gguf", "-o", tmp_path / "x.crystal", "--json")
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert str(tmp_path) not in document(result)["error"]["what"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
