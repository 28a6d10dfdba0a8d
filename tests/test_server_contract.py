"""Small promises of Ollama's API and of the metrics, each kept by a real `h2q serve`."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from h2q.server.manners import is_own
from h2q.server.metrics import FIRST_TOKEN, INTER_TOKEN, PHASES
from served import Served, served

FEW = {"temperature": 0, "num_predict": 3}
ASK = {"model": "seed", "prompt": "Once", "raw": True, "stream": False, "options": FEW}
TEMPLATE = "{{- range .Messages }}{{ .Content }}{{ end }}{{ if .Tools }}{{ json .Tools }}{{ end }}"
GAUGES = (
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "tier_planes_resident",
    "tier_planes_total", "bytes_resident", "memory_budget_bytes", "pressure_level",
)  # fmt: skip
COUNTERS = (
    "prompt_tokens_total", "generation_tokens_total", "request_success_total",
    "prefix_cache_hits_total", "budget_rejections_total", "evictions_total", "swap_total",
    "worker_restarts_total", "guard_verdicts_total",
)  # fmt: skip
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "cold_start_seconds",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as found:
        yield found


def expires(server: Served) -> list[str]:
    """When the seed model will be let go; nothing where it does not run."""
    models = json.loads(server.call("GET", "/api/ps")[1])["models"]
    return [model["expires_at"] for model in models if model["name"] == "seed:latest"]


def moment(text: str) -> datetime:
    return TypeAdapter(datetime).validate_python(text)


@pytest.fixture(scope="module")
def made(server: Served) -> str:
    """A model with everything that a Modelfile can say."""
    body = {
        "model": "made",
        "from": "seed",
        "template": TEMPLATE,
        "system": "Be brief.",
        "parameters": {"stop": ["never", "so"], "top_k": 5},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}],
        "license": ["MIT"],
        "stream": False,
    }
    assert server.post("/api/create", body) == (200, {"status": "success"})
    return "made"


def test_a_models_own_words_hold_in_every_dialect(server: Served, made: str) -> None:
    turns = [{"role": "user", "content": "Hello"}]
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
    theirs = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    for path, body in (
        ("/api/chat", {"messages": turns, "tools": [tool], "stream": False, "options": FEW}),
        ("/api/generate", {"prompt": "Hello", "stream": False, "options": FEW}),
        ("/v1/chat/completions", {"messages": turns, "tools": [tool], "max_tokens": 3}),
        ("/v1/messages", {"messages": turns, "tools": [theirs], "max_tokens": 3}),
    ):
        status, found = server.post(path, {"model": made, **body})
        assert status == 200, (path, found)


def test_what_show_tells(server: Served, made: str) -> None:
    status, shown = server.post("/api/show", {"model": made, "verbose": True})
    assert status == 200
    assert shown["parameters"].splitlines() == [
        f'{"stop":<30} "never"',
        f'{"stop":<30} "so"',
        f"{'top_k':<30} 5",
    ]
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["license"] == "MIT"
    assert shown["messages"][1] == {"role": "assistant", "content": "Yes."}
    lines = shown["modelfile"].splitlines()
    assert {'LICENSE """MIT"""', 'SYSTEM """Be brief."""', 'PARAMETER stop "so"'} <= set(lines)
    assert shown["model_info"]["general.architecture"] == "llama"
    assert not {"general.name", "tokenizer.chat_template"} & set(shown["model_info"])


def test_for_ever_lasts_until_another_time_is_given(server: Served) -> None:
    def asked(**more: Any) -> str:
        assert server.post("/api/generate", {**ASK, **more})[0] == 200
        return expires(server)[0]

    assert asked(keep_alive=-1) > "2300"
    assert asked() > "2300"  # who says nothing changes nothing
    assert asked(keep_alive="5m") < "2300"
    for _ in range(2):  # let go, and then not there to let go
        status, found = server.post("/api/generate", {"model": "seed", "keep_alive": 0})
        assert (status, found["done_reason"]) == (200, "unload")


def test_nothing_is_woken_or_kept_by_being_looked_at(server: Served) -> None:
    server.post("/api/generate", {"model": "seed", "keep_alive": 0})
    looks = ("/metrics", "/health/live", "/health/ready", "/api/tags", "/api/h2q/state", "/ui")
    for path in looks:
        assert server.call("GET", path)[0] == 200
    assert expires(server) == []
    server.post("/api/generate", {**ASK, "keep_alive": "1h"})
    (before,) = map(moment, expires(server))
    for path in looks:
        server.call("GET", path)
    (after,) = map(moment, expires(server))
    assert abs(after - before) < timedelta(milliseconds=1)  # told by the difference of two clocks


def test_every_metric_has_its_name_its_kind_and_its_labels(server: Served) -> None:
    assert server.post("/api/generate", ASK)[0] == 200
    page = server.call("GET", "/metrics")[1].decode()
    for kind, names in (("gauge", GAUGES), ("counter", COUNTERS), ("histogram", HISTOGRAMS)):
        for name in names:
            assert f"# TYPE {name} {kind}\n" in page
    for line in page.splitlines():
        assert line.startswith("#") or 'model_name="seed:latest"' in line or "made" in line
    for kind in ("weights", "kv", "scratch"):
        assert f'bytes_resident{{kind="{kind}"' in page
    for name, bounds in zip(HISTOGRAMS[:2], (FIRST_TOKEN, INTER_TOKEN), strict=True):
        found = re.findall(rf'^{name}_bucket{{le="([^"]+)",model_name="seed:latest"}}', page, re.M)
        assert found == [*map(str, bounds), "+Inf"]
    for phase in PHASES:
        assert f'cold_start_seconds_count{{model_name="seed:latest",phase="{phase}"}}' in page
    assert not re.search("^guard_verdicts_total", page, re.M)  # nothing watches answers yet


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/api/ps", "/v1/models"])
def test_heads_have_no_bodies(server: Served, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("GET", path)  # the same connection goes on
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read()
    connection.close()


def test_what_belongs_to_a_cloud_is_not_here(server: Served) -> None:
    for method, path in (
        ("POST", "/api/me"),
        ("POST", "/api/signout"),
        ("DELETE", "/api/user/keys/x"),
        ("POST", "/api/experimental/web_search"),
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/debug/pprof/"),
    ):
        assert server.call(method, path, b"{}") == (404, b"404 page not found")
    assert server.call("OPTIONS", "/api/chat") == (204, b"")


def test_addresses_of_this_machine_are_its_names() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("203.0.113.1")
    assert not is_own("2001:db8::1")
