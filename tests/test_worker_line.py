"""The line between a worker's process and its parent: what it carries, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from h2q.core import errors
from h2q.core.asks import Ask, Form, Message
from h2q.core.errors import BusyError, H2QError, ResourceError
from h2q.core.events import Alternative, Part, TokenEvent, Usage
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime import Control, Order, ProcessWorker
from h2q.runtime.child import Child
from h2q.runtime.frames import (
    LENGTH,
    MAX_FRAME,
    Counted,
    Events,
    Generate,
    Ready,
    Wish,
    error_of,
    failed,
    frame,
    question,
    reply,
)

HEAVY = ("pydantic", "fastapi", "starlette", "uvicorn", "torch", "transformers", "huggingface_hub")
HEAVY += ("rich", "typer", "ray", "gguf", "llguidance", "psutil", "asyncio", "h2q.crystallize")


def test_frames_carry_everything() -> None:
    ask = Ask(
        messages=(Message("user", "hé"),),
        tools=({"type": "function"},),
        sampling=SamplingOptions(seed=2**64 - 1, stop=("a",), logit_bias=((3, -1.0),)),
        form=Form("json"),
    )
    sent = Generate(7, ask)
    assert question(frame(sent)[LENGTH.size :]) == sent
    event = TokenEvent(
        3, "x", -0.5, 0, 2, 0.1, "stop", parts=(Part("content", "x"),),
        alternatives=(Alternative(1, "y", float("-inf")),), usage=Usage(1, 2),
    )  # fmt: skip
    told = Events(0, [(7, [event])])
    assert reply(frame(told)[LENGTH.size :]) == told


@pytest.mark.parametrize(
    "name", [n for n in dir(errors) if n.endswith("Error") or n == "Cancelled"]
)
def test_errors_cross_as_what_they_are(name: str) -> None:
    kind: type[H2QError] = getattr(errors, name)
    error = kind("What.", where="there", fix="So.")
    if isinstance(error, BusyError):
        error.retry_after = 7.5
    back = error_of(failed(1, error))
    assert (type(back), str(back), back.fix) == (kind, str(error), "So.")
    assert getattr(back, "retry_after", 7.5) == 7.5


def test_other_errors_are_failures_of_the_worker() -> None:
    back = error_of(failed(1, ZeroDivisionError("by zero")))
    assert type(back) is H2QError
    assert "by zero" in str(back)


HOSTILE = [
    b"\xff\xff\xff\xff",
    LENGTH.pack(MAX_FRAME + 1),
    LENGTH.pack(3) + b"abc",
    LENGTH.pack(0),
    LENGTH.pack(1) + b"\xc1",
    LENGTH.pack(6) + b"\x93\xa4Nope\x01"[:6],
    frame(Wish(1, Control("status")))[:-1] + b"\xc1",
    LENGTH.pack(20000) + b"\x91" * 20000,
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_process_refuses_what_is_no_question(data: bytes, capfd: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
    child = Child()
    child.line.sendall(data)
    child.line.shutdown(socket.SHUT_WR)
    assert child.line.recv(1) == b""
    assert "code 8" in child.reason(60)
    child.end()
    told = capfd.readouterr().err
    assert told.startswith("worker: ")
    assert "Traceback" not in told


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_parent_refuses_what_is_no_reply(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_instead(monkeypatch, data)

    async def work() -> None:
        worker = ProcessWorker()
        with pytest.raises(ResourceError) as caught:
            await asyncio.wait_for(worker.start(Order("nowhere")), 120)
        assert "message" in str(caught.value)
        assert worker.process is None
        await worker.stop()

    asyncio.run(work())


def test_an_answer_to_another_question_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_instead(monkeypatch, frame(Counted(1, 5)))

    async def work() -> None:
        worker = ProcessWorker()
        with pytest.raises(ResourceError, match="another question"):
            await asyncio.wait_for(worker.start(Order("nowhere")), 120)

    asyncio.run(work())


def speak_instead(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let children say these bytes to the first question, and then wait."""
    code = (
        "import socket, sys; line = socket.socket(fileno=int(sys.argv[1])); "
        f"line.sendall({frame(Ready(0))!r}); line.recv(1); line.sendall({data!r}); "
        "line.recv(1 << 20); line.recv(1)"
    )
    monkeypatch.setattr("h2q.runtime.child.BOOT", code)


def test_a_process_that_does_not_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2q.runtime.child.BOOT", "raise SystemExit(3)")
    with pytest.raises(ResourceError, match="code 3"):
        Child()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ResourceError, match="No process"):
        Child()


def test_nothing_heavy_is_loaded_before_the_first_token(
    seed_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listing = tmp_path / "modules"
    spy = (
        "import atexit, os, sys\n"
        "end = os._exit\n"
        f"os._exit = lambda code: (open({str(listing)!r}, 'w').write(' '.join(sys.modules)), "
        "end(code))\n"
    )
    from h2q.runtime import child as place

    monkeypatch.setattr(place, "BOOT", spy + place.BOOT)

    async def work() -> None:
        worker = ProcessWorker()
        await worker.start(Order(str(seed_path)))
        sampling = SamplingOptions(temperature=0.7, top_p=0.9, seed=1, max_tokens=2)
        events = worker.generate(Ask(prompt="Once", raw=True, sampling=sampling))
        assert (await anext(events)).token >= 0
        await worker.stop()

    asyncio.run(work())
    loaded = set(listing.read_text().split())
    assert "h2q.runtime.service" in loaded
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


def test_a_parent_loads_no_engine() -> None:
    code = "import sys; from h2q.runtime import ProcessWorker, Spares; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "h2q.engine", "tokenizers"}.isdisjoint(done.stdout.split())


def test_a_person_is_told_what_the_module_is_for() -> None:
    command = [sys.executable, "-m", "h2q.runtime.worker_process"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("worker: ")
