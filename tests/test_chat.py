"""`h2q run` as a conversation: over a pipe, and in a terminal with keys and Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from h2q.cli.chat_state import Talk, place
from h2q.core.asks import Message
from h2q.core.errors import UsageError
from h2q.core.sampling_options import SamplingOptions
from h2q.crystal.store import Store
from h2q.crystal.store_names import Details

COMMAND = [sys.executable, "-m", "h2q", "run"]
SECONDS = 120.0
UP, STOP, END = b"\x1b[A", b"\x03", b"\x04"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("H2Q_HOME", str(tmp_path))
    return tmp_path


def piped(crystal: str | Path, lines: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(crystal), "--chat", *more],
        input=lines,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_turns_down_a_pipe(home: Path, seed_path: Path) -> None:
    said = (
        'Once\n/show messages\n"""The\nking"""\n/save kept\n/clear\n/show messages\n/load kept\n'
        "/show messages\n/nonsense\n/set parameter temperature hot\n/set parameter top_p 2\n"
        "/save ../x\n/load nothing\n/?\n/show info\n/bye\nnever read\n"
    )
    done = piped(seed_path, said, "--max-tokens", "4", "--temperature", "0", "--pin", "all")
    assert done.returncode == 0, done.stderr
    kept = json.loads((home / "chats" / "kept.json").read_text("utf-8"))
    assert [turn["role"] for turn in kept["messages"]] == ["user", "assistant"] * 2
    assert [turn["content"] for turn in kept["messages"][::2]] == ["Once", "The\nking"]
    answers = [turn["content"] for turn in kept["messages"][1::2]]
    assert all(answers)
    assert done.stdout == "".join(f"{answer}\n" for answer in answers)
    assert done.stderr.count("user: Once") == 2
    assert "Nothing was said yet." in done.stderr
    for words in (
        "There is no command '/nonsense'", "temperature is a number", "top_p must be above 0",
        "cannot be called '../x'", "No conversation was saved", "Ctrl-C stops an answer", "1,024",
    ):  # fmt: skip
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    again = piped(seed_path, "Once\n", "--max-tokens", "4", "--temperature", "0", "--pin", "all")
    assert again.stdout == f"{answers[0]}\n"


def test_what_an_installed_model_brings_along(home: Path, seed_path: Path) -> None:
    details = Details(system="Be brief.", parameters=(("num_predict", 3), ("top_k", 1)))
    Store(home).install(seed_path, "brief", details)
    shown = piped("brief", "/show system\n/show parameters\nOnce\n/set verbose\nOnce\n")
    assert shown.returncode == 0, shown.stderr
    assert "Be brief." in shown.stderr
    assert "max_tokens           3" in shown.stderr
    assert ", 3 written," in shown.stderr
    named = piped("brief", "/show parameters\n", "--max-tokens", "5")
    assert "max_tokens           5" in named.stderr


def test_mistakes(home: Path, seed_path: Path) -> None:
    assert piped(seed_path, '"""never closed\n').returncode == 0
    for more in (["text"], ["--json"]):
        done = piped(seed_path, "", *more)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


class Terminal:
    """The program at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, words: str) -> str:
        """What came until these words, and they."""
        late = time.monotonic() + SECONDS
        while words not in self.seen:
            ready, _, _ = select.select([self._ours], [], [], 1.0)
            if ready:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.seen += os.read(self._ours, 65536).decode("utf-8", "replace")
            assert time.monotonic() < late, self.seen
            assert ready or self.process.poll() is None or words in self.seen, self.seen
        found, _, self.seen = self.seen.partition(words)
        return found + words

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def insist(self, keys: bytes, words: str) -> None:
        """Press these keys until these words come, as a person does: Python's line editor sees a
        signal between its prompt and its wait only at the next key.
        """
        late = time.monotonic() + SECONDS
        while words not in self.seen:
            self.type(keys)
            while words not in self.seen and select.select([self._ours], [], [], 1.0)[0]:
                self.seen += os.read(self._ours, 65536).decode("utf-8", "replace")
            assert time.monotonic() < late, self.seen
        self.seen = self.seen.partition(words)[2]

    def end(self) -> int:
        """The exit code."""
        late = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < late:
            if select.select([self._ours], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(self._ours, 65536)
        self.process.kill()
        os.close(self._ours)
        return self.process.wait()


@contextlib.contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    found = Terminal(*arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait()


def test_a_terminal(home: Path, seed_path: Path) -> None:
    with terminal(str(seed_path), "--max-tokens", "100000") as there:
        there.until(">>> ")
        there.type(b"Once upon a time\n")
        there.until("Once upon a time\r\n")
        for _ in range(5):
            there.until(" ")
        there.type(STOP)
        there.until("Stopped.")
        there.until(">>> ")
        there.insist(b"half a line" + STOP, "Ctrl-D or /bye ends.")
        there.until(">>> ")
        there.type(b"/set parameter num_predict 3\n")
        there.until("Set num_predict to 3.")
        there.until(">>> ")
        there.type(b'"""two\n')
        there.until("... ")
        there.type(b'lines"""\n')
        there.until(">>> ")
        there.type(b"/show messages\n")
        assert "user: two\r\nlines" in there.until(">>> ")
        there.type(b"/bye\n")
        assert there.end() == 0
    history = home / "history"
    assert "Once upon a time" in history.read_text("utf-8")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with terminal(str(seed_path), "--max-tokens", "2") as there:
        there.until(">>> ")
        there.type(UP + UP)
        there.type(b"\n")
        there.until("Nothing was said yet.")
        there.until(">>> ")
        there.type(END)
        assert there.end() == 0


def test_saved_conversations(tmp_path: Path) -> None:
    talk = Talk("m", SamplingOptions(), system="S")
    talk.heard("a\ud83d", "b", "c")
    talk.set_parameter("stop", ["X", "Y"])
    talk.set_parameter("num_predict", ["-1"])
    path = place(tmp_path / "chats", "one")
    talk.save(path)
    other = Talk("m", SamplingOptions(temperature=0.5))
    other.load(path)
    assert other.messages[1] == Message("assistant", "b", "c")
    assert (other.system, other.sampling.stop, other.sampling.temperature) == ("S", ("X", "Y"), 1)
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]
    for text in (
        "", "[]", "{}", "null", '{"format":"h2q-chat","version":1}', "[" * 100_000, "\xff",
        path.read_text("utf-8").replace('"user"', '"robot"'),
        path.read_text("utf-8").replace('"temperature": 1.0', '"temperature": "x"'),
    ):  # fmt: skip
        path.write_bytes(text.encode("latin-1", "replace"))
        with pytest.raises(UsageError):
            other.load(path)
    assert other.messages[1] == Message("assistant", "b", "c")
    for name in ("", ".", "..", "a/b", "x" * 81, "a\0", "-", "ü"):
        with pytest.raises(UsageError):
            place(tmp_path, name)
