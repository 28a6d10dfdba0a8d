"""A growth that is stopped, and what stands in its way."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from h2q.cli.output import progress
from h2q.core.errors import ResourceError
from h2q.core.events import Progress
from h2q.crystal import CrystalWriter
from small_crystals import SPEC
from small_llamas import SMALL, small_llama
from test_commands import document, h2q


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llamas") / "model"
    small_llama(folder, replace(SMALL, max_position_embeddings=48))  # short texts
    return folder


def stopped(model: Path, target: Path, how: signal.Signals) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a growth that was stopped among the layers."""
    journal = target.with_name(f".{target.name}.journal")
    process = subprocess.Popen(
        [sys.executable, "-m", "h2q", *command(model, target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(journal.glob("*.safetensors"))) < 4 and process.poll() is None:
        time.sleep(0.01)  # the texts, the sensitivity, the embedding and the streams are kept
    process.send_signal(how)
    out, words = process.communicate(timeout=60)
    assert not target.exists()
    assert len(list(journal.glob("*.safetensors"))) >= 4
    return process.returncode, out, words


def command(model: Path, target: Path) -> list[str]:
    return ["crystallize", str(model), "-o", str(target), "--bits", "3", "--json"]


def test_a_killed_growth_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    """The next call takes over the text and the layers it finds, and sweeps what was half done."""
    target = tmp_path / "stopped.crystal"
    _, _, words = stopped(model, target, signal.SIGKILL)
    again = h2q(*command(model, target))
    assert again.returncode == 0
    assert "sample text" in words
    assert "sample text" not in again.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["stopped.crystal"]
    whole = tmp_path / "whole.crystal"
    assert h2q(*command(model, whole)).returncode == 0
    for name in ("crystal.json", "base.safetensors", "refine-01.safetensors"):
        assert (target / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_growth_that_is_asked_to_stop_leaves_only_its_journal(
    model: Path, tmp_path: Path, how: signal.Signals
) -> None:
    code, out, words = stopped(model, tmp_path / "stopped.crystal", how)
    assert code == 130
    assert json.loads(out)["error"]["type"] == "Cancelled"
    assert "Traceback" not in words
    assert [p.name for p in tmp_path.iterdir()] == [".stopped.crystal.journal"]


def test_a_place_that_cannot_be_is_told_before_anything_is_fetched(
    seed_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    for target, code, words in (
        (tmp_path, 2, "already something"),
        (tmp_path / ("x" * 300), 8, "File name too long"),
    ):
        told = h2q("crystallize", "hf:nobody/nothing", "-o", target, "--json")
        assert told.returncode == code
        assert words in document(told)["error"]["what"]
        exported = h2q("export", seed_path, "--gguf", target, "--json")
        assert exported.returncode == code
    with (
        pytest.raises(ResourceError, match="Not a directory"),
        CrystalWriter(tmp_path / "file" / "a.crystal", SPEC, 0),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_stage_that_begins_anew_estimates_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan after plan is grown under one bar."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress() as listen:
        for done in (0.5, 1.0, 0.25):
            listen(Progress("encode planes", done, 1.0))
    last = [line for line in terminal.getvalue().splitlines() if "encode planes" in line][-1]
    assert "25%" in last
    assert "left 0:00:00" not in last
