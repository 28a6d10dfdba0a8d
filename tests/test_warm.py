"""Conversations on disk: found by the next process, never half, never another's."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from h2q.core.asks import Ask
from h2q.core.events import TokenEvent
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime.service import Service
from h2q.runtime.warm import Warm
from h2q.runtime.worker import Control, Order

STORY = tuple(range(5, 305))
OTHER = tuple(range(900, 1300))


def ask(tokens: tuple[int, ...], count: int = 8, **more: object) -> Ask:
    sampling = SamplingOptions(temperature=0, max_tokens=count)
    return Ask(tokens=tokens, sampling=sampling, **more)  # type: ignore[arg-type]


@contextmanager
def service(crystal: Path, folder: Path, **order: object) -> Iterator[Service]:
    made = Service(Order(str(crystal), warm=str(folder), **order))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def heard(made: Service, asked: Ask) -> tuple[list[int], int]:
    """Tokens of an answer, and how many of the prompt's were found."""
    events: list[TokenEvent] = list(made.generate(asked))
    usage = events[-1].usage
    assert usage is not None
    return [event.token for event in events], usage.cached


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.stream"))


def test_a_conversation_goes_on_in_another_process(seed_path: Path, tmp_path: Path) -> None:
    with service(seed_path, tmp_path / "warm") as made:
        first, cached = heard(made, ask(STORY))
        assert cached == 0
        longer = (*STORY, *first[:-1], *range(40, 140))
        expected, _ = heard(made, ask(longer))
    assert len(files(tmp_path / "warm")) == 1  # the longer one has the shorter in it
    assert (tmp_path / "warm").stat().st_mode & 0o077 == 0
    with service(seed_path, tmp_path / "warm") as made:
        assert heard(made, ask(OTHER))[1] == 0
        again, cached = heard(made, ask(longer))
        assert again == expected
        assert cached == len(longer) // 64 * 64
        assert made.state().restored == 1
        parted = (*STORY[:200], *OTHER)
        assert heard(made, ask(parted))[1] == 192  # what the two have in common
    assert len(files(tmp_path / "warm")) == 3


def test_what_depends_on_other_things_is_not_found(seed_path: Path, tmp_path: Path) -> None:
    with service(seed_path, tmp_path) as made:
        heard(made, ask(STORY))
    for order in ({"groups": 0}, {"cache": "f16"}):
        with service(seed_path, tmp_path, **order) as made:
            assert heard(made, ask(STORY))[1] == 0
    with service(seed_path, tmp_path) as made:
        assert heard(made, ask(STORY, planes=1))[1] == 256  # saved by the one with base planes
        assert heard(made, ask(STORY))[1] == 256


def test_damaged_files_cost_time_and_no_more(seed_path: Path, tmp_path: Path) -> None:
    with service(seed_path, tmp_path) as made:
        expected, _ = heard(made, ask(STORY))
    (path,) = files(tmp_path)
    data = path.read_bytes()
    at = len(data) // 2
    hostile: list[Callable[[], object]] = [
        lambda: path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]),
        lambda: path.write_bytes(data[:at]),
        lambda: path.write_bytes(b""),
        lambda: (path.unlink(), path.mkdir()),
        lambda: (path.rmdir(), path.symlink_to(tmp_path / "nowhere")),
    ]
    for damage in hostile:
        damage()
        with service(seed_path, tmp_path) as made:
            assert heard(made, ask(STORY)) == (expected, 0)
        if path.is_file():
            with service(seed_path, tmp_path) as made:  # it was written anew
                assert heard(made, ask(STORY)) == (expected, 256)


def test_a_quota_keeps_what_was_used_last(seed_path: Path, tmp_path: Path) -> None:
    with service(seed_path, tmp_path) as made:
        heard(made, ask(STORY))
    one = files(tmp_path)[0].stat().st_size
    quota = one * 2 + (1 << 17)
    texts = [tuple(range(begin, begin + 300)) for begin in (1000, 1400, 1800, 2200)]
    for text in texts:
        with service(seed_path, tmp_path, warm_bytes=quota) as made:
            heard(made, ask(STORY))  # used again and again
            heard(made, ask(text))
        assert sum(path.stat().st_size for path in files(tmp_path)) <= quota
    with service(seed_path, tmp_path, warm_bytes=quota) as made:
        assert heard(made, ask(STORY))[1] == 256
        assert heard(made, ask(texts[-1]))[1] == 256
        assert heard(made, ask(texts[0]))[1] == 0
    with service(seed_path, tmp_path / "none", warm_bytes=1000) as made:
        heard(made, ask(STORY))
    assert not (tmp_path / "none").exists()


def test_forgetting_removes_the_files_of_a_crystal(seed_path: Path, tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef-x.stream").write_bytes(b"of another crystal")
    with service(seed_path, tmp_path) as made:
        heard(made, ask(STORY))
    with service(seed_path, tmp_path) as made:
        assert heard(made, ask(STORY))[1] == 256
        made.control(Control("forget"))
        assert heard(made, ask(STORY))[1] == 0
        made.control(Control("forget"))
    assert [path.name for path in files(tmp_path)] == ["0123456789abcdef-x.stream"]


def test_what_rests_is_saved_while_the_process_lives(
    seed_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.runtime.warm.SETTLE_SECONDS", 0.05)
    with service(seed_path, tmp_path) as made:
        heard(made, ask(STORY))
        until = time.monotonic() + 60
        while not files(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert files(tmp_path)
        assert isinstance(made.warm, Warm)
        assert made.warm.wait_seconds() is None


def test_a_process_killed_while_it_saves_leaves_whole_files(
    seed_path: Path, tmp_path: Path
) -> None:
    code = f"""
        import sys
        from h2q.core.asks import Ask
        from h2q.core.sampling_options import SamplingOptions
        from h2q.runtime import warm
        from h2q.runtime.service import Service
        from h2q.runtime.worker import Order

        warm.SETTLE_SECONDS = 0.0
        made = Service(Order({str(seed_path)!r}, warm={str(tmp_path)!r}))
        sampling = SamplingOptions(temperature=0, max_tokens=1)
        for begin in range(5, 3500, 20):
            list(made.generate(Ask(tokens=tuple(range(begin, begin + 200)), sampling=sampling)))
            print(begin, flush=True)
    """
    done = 0
    for kill_after in (1, 4):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(kill_after):
                assert process.stdout.readline()
            until = time.monotonic() + 60
            while len(list(tmp_path.iterdir())) <= done and time.monotonic() < until:
                time.sleep(0.0002)  # the first that is new, half written as it may be
            process.send_signal(signal.SIGKILL)
        done = len(files(tmp_path))
        with service(seed_path, tmp_path) as made:
            assert made.warm is not None
            for begin in (5, 25, 45, 65):
                text = tuple(range(begin, begin + 200))
                _, cached = heard(made, ask(text, 1))
                assert cached in (0, 192)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
