"""One `h2q serve` in front of another, each a process of its own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import ollama
import pytest

from served import served, until

GREEDY = {"temperature": 0, "num_predict": 8}


def test_a_second_server_answers_for_the_first(tmp_path: Path, seed_path: Path) -> None:
    first_home, second_home = tmp_path / "first", tmp_path / "second"
    with served(first_home, seed=seed_path) as first, served(
        second_home, "--ollama", first.address
    ) as second:  # fmt: skip
        near, far = ollama.Client(host=second.address), ollama.Client(host=first.address)
        assert [model.model for model in near.list().models] == ["seed:latest"]
        pieces = list(near.generate("seed", "Once", raw=True, stream=True, options=GREEDY))
        assert len(pieces) == 9
        said = far.generate("seed", "Once", raw=True, options=GREEDY).response
        assert "".join(piece.response for piece in pieces) == said
        assert near.show("seed").details == far.show("seed").details
        assert len(near.embed("seed", "a").embeddings) == 1
        stream = near.generate("seed", "Once", raw=True, stream=True)
        next(iter(stream))
        first.process.send_signal(signal.SIGKILL)
        with pytest.raises(ollama.ResponseError, match="broke off"):
            list(stream)
        assert until(lambda: second.call("GET", "/health/ready")[0] == 200)
        status, data = second.call("POST", "/api/generate", {"model": "seed", "prompt": "x"})
        assert status == 502
        assert "cannot be reached" in json.loads(data)["error"]
        assert near.list().models == []
        near._client.close()
        far._client.close()
