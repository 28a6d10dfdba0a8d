"""Command lines: what is read without Typer is what Typer reads."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from h2q.bench.random_crystal import write_random
from h2q.bench.random_model import SHAPES, TRIAL
from h2q.cli import quick
from h2q.cli.main import COMMANDS, command
from h2q.cli.parameters import Command, Given, defaults, parameters
from h2q.core.errors import InternalError

TEXTS = ("3", "0.5", "all", "two words", "", "1_0", "٣", "nan", "1e3", "-1", "-", "--", "é", "=")
LINES = 300  # of each command


class Recorder:
    """Stands for a command and notes what it is called with."""

    def __init__(self, asked: Command) -> None:
        functools.update_wrapper(self, asked)
        self.__code__, self.__defaults__ = asked.__code__, asked.__defaults__
        self.values: dict[str, Any] = {}

    def __call__(self, **values: Any) -> None:
        self.values = values


def random_line(random: Random, asked: Command, here: Path) -> list[str]:
    """Words that might be for a command; most lines make sense."""
    known, optional, words = parameters(asked), defaults(asked), []
    texts = (*TEXTS, str(here), str(here / "file"))
    for parameter in known:
        flags = parameter.flags
        if not flags:
            count = random.choice((1, 1, 1, 0, 2))
            words += [random.choice(texts) for _ in range(count)]
        elif random.random() < (0.25 if parameter.name in optional else 0.9):
            flag = random.choice(flags)
            value = random.choice(("7", "65", "70", random.choice(texts)))
            if parameter.kind is bool:
                words.append(flag)
            elif random.random() < 0.3:
                words.append(f"{flag}={value}")
            else:
                words += [flag, value]
    if random.random() < 0.1:
        words.insert(random.randrange(len(words) + 1), random.choice(("--nothing", "-x", "3")))
    return words


@pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")  # of Typer's making
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_read_quickly_is_what_typer_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H2Q_HOME", str(tmp_path / "home"))
    (tmp_path / "file").write_text("")
    from h2q.cli import typer_app

    asked = command(name)
    recorder = Recorder(asked)
    app = typer_app.app({name: recorder, "other": lambda: None})
    random, taken = Random(name), 0
    for _ in range(LINES):
        words = random_line(random, asked, tmp_path)
        values = quick.read(asked, words)
        if values is None:
            continue
        taken += 1
        app([name, *words], standalone_mode=False)
        assert values == recorder.values, words
        kinds = {key: type(value) for key, value in values.items()}
        assert kinds == {key: type(value) for key, value in recorder.values.items()}, words
    assert taken > LINES // 30


def test_plain_lines_are_read_quickly(tmp_path: Path) -> None:
    options = ["--max-tokens", "5", "--temperature=0", "--stop", "a", "--stop", "b", "--json"]
    values = quick.read(command("run"), [str(tmp_path), "Once upon", *options])
    assert values is not None
    assert (values["crystal"], values["prompt"]) == (tmp_path, "Once upon")
    assert (values["max_tokens"], values["temperature"], values["stop"]) == (5, 0.0, ["a", "b"])
    named = {"crystal", "prompt", "max_tokens", "temperature", "stop", "json"}
    assert values["given"] == named
    assert isinstance(values["given"], Given)
    assert values["top_p"] == 0.95


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["x", "--frobnicate"],
        ["x", "y", "z"],
        ["x", "--seed"],
        ["x", "--seed", "one"],
        ["x", "--seed", "1", "--seed", "2"],
        ["x", "--chat=1"],
        ["x", "--max-tokens", "0"],
        ["x", "--", "--json"],
    ],
)
def test_mistakes_and_what_needs_thought_are_left_to_typer(words: list[str]) -> None:
    assert quick.read(command("run"), words) is None


def test_a_run_loads_no_typer_and_nothing_of_others(tmp_path: Path) -> None:
    """Every module costs time before the first token."""
    crystal = write_random(tmp_path / "some.crystal", SHAPES[TRIAL])
    code = (
        "import json, sys; from h2q.cli.main import main\n"
        "try: main()\n"
        "finally: print(); print(json.dumps(sorted(sys.modules)))"
    )
    words = ["run", str(crystal), "The sea", "--max-tokens", "2"]
    told = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(told.stdout.splitlines()[-1]))
    heavy = "typer click rich jinja2 asyncio msgspec psutil pydantic fastapi uvicorn http.client"
    assert not loaded & set(heavy.split())
    assert not [name for name in loaded if name.startswith(("h2q.server", "h2q.sources.", "torch"))]
    assert sorted(name for name in loaded if name.startswith("h2q.cli.")) == [
        *("h2q.cli.main", "h2q.cli.options", "h2q.cli.parameters", "h2q.cli.quick", "h2q.cli.talk")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from h2q.cli import typer_app

    typer_app.run({name: command(name), "other": lambda: None}, [name, "--help"])
    told = capsys.readouterr().out
    assert told.startswith("Usage: ")
    assert "\\" not in told
    known = [one for one in parameters(command(name)) if one.kind is not Given]
    needed = [one for one in known if one.name not in defaults(command(name))]
    assert ("[required]" in told) == bool(needed)
    assert told.count("rguments:") == any(not one.flags for one in known)
    words = "".join(told.split())
    for one in known:
        assert one.said is not None
        assert "".join(one.said.help.split()) in words, one.name


@pytest.mark.parametrize("whole", ["", "1"])
def test_a_bug_is_told_like_any_other_failure(whole: str) -> None:
    code = (
        "from h2q import kernels; kernels.threads = lambda: {}['no\\n such thing']; "
        "from h2q.cli.main import main; main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "H2Q_TRACEBACK": whole},
    )
    assert told.returncode == InternalError.exit_code
    (line,) = told.stdout.splitlines()
    error = json.loads(line)["error"]
    assert error["type"] == "InternalError"
    assert error["what"] == "Unforeseen: KeyError: 'no\\n such thing'"
    assert error["where"].startswith("h2q/cli/doctor.py:")
    assert "H2Q_TRACEBACK" in error["fix"]
    assert ("Traceback" in told.stderr) == bool(whole)
    assert told.stderr.splitlines()[-1].startswith("error: Unforeseen: KeyError")
