"""Ollama's client for JavaScript on Node against `h2q serve` with the seed's crystal."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from served import served, until

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "build" / "node" / "node_modules" / "ollama" / "dist" / "index.mjs"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="there is no Node")
@pytest.mark.skipif(not CLIENT.exists(), reason="the npm package ollama is not installed")
def test_it_talks(tmp_path: Path, seed_path: Path) -> None:
    script = Path(__file__).with_name("ollama_client.mjs")
    with served(tmp_path / "home", seed=seed_path) as server:
        done = subprocess.run(
            [NODE or "", str(script), str(CLIENT), server.address, "seed"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert until(lambda: server.metric("num_requests_running") == 0)
    text = told["whole"]["message"]["content"]
    assert text
    assert "".join(piece["message"]["content"] for piece in told["pieces"]) == text
    assert told["pieces"][-1]["eval_count"] == told["whole"]["eval_count"] == 12
    assert "".join(piece["response"] for piece in told["generated"])
    assert told["generated"][-1]["context"]
    assert json.loads(told["formed"]["message"]["content"])["legs"] in (2, 4)
    assert len(told["embedded"]["embeddings"]) == 2
    assert [model["name"] for model in told["list"]["models"]] == ["seed:latest"]
    assert [model["name"] for model in told["running"]["models"]] == ["seed:latest"]
    assert told["shown"]["details"]["family"] == "llama"
    assert told["error"] == {"message": "model 'nobody' not found", "status": 404}
    assert told["aborted"] == "AbortError"
    assert told["heard"] > 0
    assert told["unloaded"]["done_reason"] == "unload"
