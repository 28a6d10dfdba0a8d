"""`docs/api.md`: a heading for every endpoint and setting and none besides; its examples."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ollama
import pytest

from h2q.bench.scripted import CARD, WORDS, Script, ScriptedHouse
from h2q.core import settings
from h2q.server.ollama.options import DEFAULTS
from scripted_server import Running, running

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:11434"
EXAMPLES = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SAID = "".join(WORDS[:4])
NAMES = [f"{kind} {text.split(chr(10))[0][:40]}" for kind, text in EXAMPLES]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    house = ScriptedHouse(Script(tokens=4), replace(CARD, name="seed:latest"))
    with running(house=house) as found:
        yield found


def headings(pattern: str) -> list[str]:
    return re.findall(rf"^### ({pattern})$", PAGE, re.MULTILINE)


def test_every_endpoint_has_a_heading(server: Running) -> None:
    routes = [route for dialect in server.app.dialects for route in dialect.routes()]
    known = [f"{route.method} {route.path.replace(':path}', '}')}" for route in routes]
    found = headings(r"(?:GET|POST|HEAD|DELETE|PUT) .*")
    assert sorted(found) == sorted(known)


def test_every_setting_has_a_heading() -> None:
    assert settings.__file__ is not None
    known = set(re.findall(r"H2Q_[A-Z_]+", Path(settings.__file__).read_text("utf-8")))
    assert set(headings(r"H2Q_\w+")) == known
    assert len(known) <= 12


def test_every_option_is_there() -> None:
    command = [sys.executable, "-m", "h2q", "serve", "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    options = set(re.findall(r"^ +(--[a-z-]+)", told.stdout, re.MULTILINE)) - {"--help"}
    table = PAGE.partition("## Options of h2q serve")[2]
    assert set(re.findall(r"`(--[a-z-]+)`", table)) == options
    assert all(f"`{name}`" in PAGE for name in DEFAULTS)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=NAMES)
def test_an_example_runs(kind: str, text: str, server: Running) -> None:
    code = text.replace(ADDRESS, server.address)
    assert code != text
    asks = server.house.worker.asks
    asked = len(asks)
    if kind == "python":
        out, names = io.StringIO(), dict[str, Any]()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        client = names["client"]
        (client._client if isinstance(client, ollama.Client) else client).close()
        assert out.getvalue().strip() == SAID
    else:
        if shutil.which("curl") is None:
            pytest.skip("there is no curl")
        done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if "health" in code:
            assert json.loads(done.stdout)["status"] == "ready"
            return
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == SAID
    assert len(asks) == asked + 1
