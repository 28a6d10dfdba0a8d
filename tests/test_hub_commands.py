"""Names of the hub and of Ollama stores on the command line: real processes, exit codes, a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoints import WEIGHTS
from h2q.sources.hub import fetch
from h2q.sources.hub_wire import Hub
from hub_server import REPO, HubServer
from ollama_stores import Store

TOKEN = "hf_of_a_tester"


def environment(server: HubServer, cache: Path) -> dict[str, str]:
    mine = {"HF_ENDPOINT": server.address, "HF_HUB_CACHE": str(cache), "HF_TOKEN": TOKEN}
    home = {"HF_HOME": str(cache.parent / "home"), "NO_PROXY": "127.0.0.1"}
    return {**os.environ, **mine, **home, "HF_HUB_DOWNLOAD_TIMEOUT": "600"}


def test_a_killed_download_goes_on(server: HubServer, hub: Hub) -> None:
    server.hang[WEIGHTS] = [200_000]
    command = [sys.executable, "-m", "h2q", "crystallize", f"hf:{REPO}", "-o", "never.crystal"]
    process = subprocess.Popen(
        command, env=environment(server, hub.cache), stderr=subprocess.PIPE, cwd=hub.cache.parent
    )
    assert server.waiting.wait(600)
    (partial,) = [hub.cache / "models--tester--seed" / "blobs"]
    while not (found := list(partial.glob("*.incomplete"))) or found[0].stat().st_size < 100_000:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept = found[0].stat().st_size
    assert {seen.authorization for seen in server.seen} == {f"Bearer {TOKEN}"}
    assert (fetch(REPO, hub=hub) / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.asked(WEIGHTS) == [None, f"bytes={kept}-"]
    assert not list(hub.cache.parent.glob("*never*"))


def test_commands_take_names(server: HubServer, hub: Hub, seed_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The old house stood at the edge of the sea, and the night was long. " * 20)
    options = ["--text", str(text), "--tokens", "100", "--length", "50", "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "h2q", "eval", seed_path, "--against", f"hf:{REPO}", *options],
        env=environment(server, hub.cache),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["quality"] > 0.5
    assert "fetch the weights ..." in result.stderr


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("hf:tester/none", 3, "no such model"),
        ("hf:../x", 3, "not the name of a model"),
        ("ollama:gone", 3, "Known models are tiny:latest."),
        ("ollama:../x", 3, "is not a name"),
    ],
)
def test_mistaken_names(
    server: HubServer, hub: Hub, tmp_path: Path, place: str, code: int, words: str
) -> None:
    Store(tmp_path / "ollama").add("registry.ollama.ai/library/tiny/latest")
    result = subprocess.run(
        [sys.executable, "-m", "h2q", "crystallize", place, "-o", "x.crystal", "--json"],
        env={**environment(server, hub.cache), "OLLAMA_MODELS": str(tmp_path / "ollama")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == code, result.stderr
    error = json.loads(result.stdout)["error"]
    assert words in f"{error['what']} {error['fix']}"
    assert result.stderr.startswith("error: ")
    assert TOKEN not in result.stdout + result.stderr
    assert not (tmp_path / "x.crystal").exists()


def test_the_library_is_loaded_only_for_the_hub() -> None:
    code = (
        "import sys, h2q.cli.main, h2q.sources;"
        "sys.exit(any(m.split('.')[0] in ('huggingface_hub', 'httpx2') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
