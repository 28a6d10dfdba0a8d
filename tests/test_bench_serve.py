"""`h2q bench serve`: every row is there, and counts what it says it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from h2q.bench import serve, serve_whole
from h2q.bench.serve import ServeOptions, bench_serve
from h2q.bench.serve_client import OLLAMA, OPENAI, child, said, whole_stream
from h2q.bench.serve_crowd import Client, Crowd
from h2q.core.errors import ResourceError


@pytest.mark.long
def test_a_trial_has_all_rows(seed_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_whole, "STARTS", 1)
    monkeypatch.setattr(serve, "CROWD_TOKENS", 4)
    trial = ServeOptions(1.0, 4, tokens=500, paced_tokens=20, leaves=2, crystal=seed_path)
    found = bench_serve(trial)["results"]
    assert set(found) == {
        *(f"cpu per token, {name}, {kind}" for name in ("ollama", "openai")
          for kind in ("stream", "paced")),
        "one stream, ollama", "one stream, openai", "made after leaving",
        "h2q serve listens", "h2q serve answers", "seed, sent after leaving",
        "seed, worker's memory",
        *(f"{model}, 4 clients, {what}" for model in ("scripted", "seed")
          for what in ("errors", "all streams", "memory growth", "slowest client",
                       "slowest answer")),
    }  # fmt: skip
    for model in ("scripted", "seed"):
        assert found[f"{model}, 4 clients, errors"]["value"] == 0
        assert found[f"{model}, 4 clients, errors"]["answers"] > 0
    assert found["one stream, ollama"]["value"] > 0


def test_tokens_are_counted() -> None:
    with child("scripted") as server:
        for wire in (OLLAMA, OPENAI):
            assert said(whole_stream(server, wire.request("scripted", 17))[1], wire) == 17
            with pytest.raises(ResourceError, match="wrong"):
                said(whole_stream(server, wire.request("nobody", 17))[1], wire)
        with server.connect(OLLAMA.request("scripted", 1 << 30)) as connection:
            assert connection.recv(1000)
            assert server.get("/bench/times")["leases"] == 1


def test_a_crowd_that_is_unfair_or_grows_is_seen() -> None:
    some = [Client(100, 2, [10.0, 9.0]), Client(25, 1, [3.0], ["broken"])]
    seen = Crowd(some, 5.0, [100] * 10 + [200] * 10)
    assert (seen.errors, seen.answers, seen.tokens_per_second) == (["broken"], 3, 25.0)
    assert (seen.fairness, seen.stream_fairness, seen.growth) == (0.25, 0.3, 2.0)
