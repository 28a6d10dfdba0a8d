"""A journal survives kill -9, full disks and damage; nothing in it is believed without proof."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_writer import KEY, content
from safetensors.numpy import load_file

from h2q.core.errors import ResourceError, UsageError
from h2q.crystallize.journal import Journal, journal_key

WRITER = Path(__file__).with_name("journal_writer.py")


def command(folder: Path, limit: int = 0) -> list[str]:
    return [sys.executable, str(WRITER), str(folder), str(limit)]


def same(found: dict[str, np.ndarray] | None, wanted: dict[str, np.ndarray]) -> bool:
    return (
        found is not None
        and list(found) == list(wanted)
        and all(
            found[name].dtype == array.dtype
            and found[name].shape == array.shape
            and (found[name] == array).all()
            for name, array in wanted.items()
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal with two entries, closed."""
    with Journal.beside(tmp_path / "m.crystal", KEY) as journal:
        for number in range(2):
            journal.put(f"entry {number}", content(number), {"number": number, "error": 0.5})
    return journal.folder


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_what_was_kept_comes_back_mapped(folder: Path) -> None:
    assert folder.name == ".m.crystal.journal"
    with Journal(folder, KEY) as journal:
        assert journal.get("entry 2") is None
        found = journal.entry("entry 1")
        assert found is not None
        assert same(found.arrays, content(1))
        assert found.facts == {"number": 1, "error": 0.5}
        codes = found.arrays["codes"]
        assert codes.ctypes.data % 64 == 0
        assert not codes.flags.writeable
        journal.put("entry 1", content(7), {})
        assert same(journal.get("entry 1"), content(7))
        assert same(found.arrays, content(1))  # the old file lives as long as its arrays
        journal.close(remove=True)
        assert not folder.exists()
        assert same(found.arrays, content(1))
        with pytest.raises(UsageError, match="closed"):
            journal.get("entry 1")


def test_the_library_reads_entries(folder: Path) -> None:
    found = [load_file(path) for path in entries(folder)]
    for number in range(2):
        wanted = content(number)
        assert any(all(np.array_equal(f[n], wanted[n]) for n in wanted) for f in found)


def test_arrays_are_kept_as_they_are(tmp_path: Path) -> None:
    kinds = "bool uint8 int8 uint16 int16 float16 uint32 int32 float32 uint64 int64 float64"
    arrays = {kind: np.arange(5).astype(kind) for kind in kinds.split()}
    arrays |= {"turned": np.arange(12.0).reshape(3, 4).T, "single": np.array(3.5)}
    with Journal(tmp_path / "j", KEY) as journal:
        journal.put("all", arrays, {})
        assert same(journal.get("all"), arrays)
        for bad in (np.zeros(2, object), np.zeros(2, complex), np.zeros(2, ">f4"), np.array(["a"])):
            with pytest.raises(UsageError, match="cannot be kept"):
                journal.put("bad", {"bad": bad}, {})
        assert journal.get("bad") is None
        assert list(journal.folder.glob("*.writing")) == []


def test_a_journal_of_another_key_is_replaced(folder: Path) -> None:
    with Journal(folder, "other") as journal:
        assert entries(folder) == []
        assert journal.get("entry 0") is None
    with Journal(folder, KEY) as journal:
        assert journal.get("entry 0") is None


def test_an_entry_of_another_key_or_name_is_not_used(folder: Path, tmp_path: Path) -> None:
    """Even where the note of the key was lost or the files were renamed."""
    first, second = entries(folder)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with Journal(folder, KEY) as journal:
        assert journal.get("entry 0") is None
        assert journal.get("entry 1") is None
        assert entries(folder) == []
    with Journal(tmp_path / "other", "other") as journal:
        journal.put("entry 0", content(0), {})
    (stranger,) = entries(tmp_path / "other")
    with Journal(folder, KEY) as journal:
        shutil.copy(stranger, folder)
        assert journal.get("entry 0") is None


def test_keys_follow_everything_that_decides() -> None:
    keys = [journal_key(p) for p in ([], [""], ["a", "b"], ["ab"], ["b", "a"], ["a", "b", ""])]
    assert len(set(keys)) == len(keys)
    assert journal_key(["a", "b"]) == keys[2]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 0.99999), bit=st.integers(0, 7))
def test_a_flipped_bit_drops_the_entry(folder: Path, where: float, bit: int) -> None:
    path = entries(folder)[0]
    whole = path.read_bytes()
    data = bytearray(whole)
    data[int(len(data) * where)] ^= 1 << bit
    path.write_bytes(data)
    try:
        with Journal(folder, KEY) as journal:
            found = [journal.get(f"entry {number}") for number in range(2)]
        assert sum(f is None for f in found) == 1
        assert not path.exists()
    finally:
        path.write_bytes(whole)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(keep=st.floats(0, 0.99999), junk=st.binary(max_size=3))
def test_a_torn_or_longer_entry_is_dropped(folder: Path, keep: float, junk: bytes) -> None:
    path = entries(folder)[0]
    whole = path.read_bytes()
    path.write_bytes(whole + junk if len(junk) > 1 else whole[: int(len(whole) * keep)])
    try:
        with Journal(folder, KEY) as journal:
            assert sum(journal.get(f"entry {number}") is None for number in range(2)) == 1
    finally:
        path.write_bytes(whole)


def test_damage_after_the_first_proof_is_found(folder: Path) -> None:
    with Journal(folder, KEY) as journal:
        assert journal.get("entry 0") is not None
        for path in entries(folder):
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        assert journal.get("entry 0") is None


def test_things_that_are_no_entries(folder: Path) -> None:
    for path, make in zip(entries(folder), (Path.mkdir, os.mkfifo), strict=True):
        path.unlink()
        make(path)
    with Journal(folder, KEY) as journal:
        assert journal.get("entry 0") is None
        assert journal.get("entry 1") is None


def test_two_owners(folder: Path) -> None:
    with Journal(folder, KEY), pytest.raises(UsageError, match=f"Process {os.getpid()} is growing"):
        Journal(folder, KEY)
    process = subprocess.Popen(command(folder), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(UsageError, match=f"Process {process.pid} is growing"):
        Journal(folder, KEY)
    process.kill()
    process.wait()
    process.stdout.close()
    (folder / "lock").write_text("1\n")  # a process that lives, but does not hold it
    with Journal(folder, KEY) as journal:
        assert same(journal.get("entry 0"), content(0))


@pytest.mark.parametrize("delay", [0.0, 0.007, 0.03, 0.1])
def test_kill_loses_nothing_that_was_finished(tmp_path: Path, delay: float) -> None:
    """Killed at any moment of writing entry after entry; twice, the second goes on."""
    folder = tmp_path / "j"
    finished = -1
    for _ in range(2):
        process = subprocess.Popen(command(folder), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline()]
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        finished = max(finished, *(int(line) for line in told if line.endswith("\n")))
        with Journal(folder, KEY) as journal:
            assert list(folder.glob("*.writing")) == []
            for number in range(finished + 1):
                assert same(journal.get(f"entry {number}"), content(number))
            after = journal.get(f"entry {finished + 1}")  # kept, but not yet told
            assert after is None or same(after, content(finished + 1))


@pytest.mark.parametrize("limit", [1, 100, 1000, 3000])
def test_a_full_disk_keeps_what_was_finished(folder: Path, limit: int) -> None:
    result = subprocess.run(
        command(folder, limit), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.startswith(ResourceError.__name__), result.stdout + result.stderr
    assert "full" in result.stdout
    assert str(folder) not in result.stdout
    assert list(folder.glob("*.writing")) == []
    with Journal(folder, KEY) as journal:
        assert [same(journal.get(f"entry {n}"), content(n)) for n in range(2)] == [True, True]


READ_ONLY = """
import os, sys
sys.path.insert(0, {path!r})
from journal_writer import main
os.chdir({folder!r})
if os.geteuid() == 0:
    os.setuid(65534)
main("journal", 0)
"""


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_that_may_not_be_written(tmp_path: Path, made: bool) -> None:
    if made:
        Journal(tmp_path / "journal", KEY).close()
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    code = READ_ONLY.format(path=str(WRITER.parent), folder=str(tmp_path))
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    assert result.stdout.startswith(ResourceError.__name__), result.stdout + result.stderr
    assert "cannot be written: Permission denied" in result.stdout
