"""Full disks and killed writers: what stands at the target is whole at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from h2q.codec.planes import Plane
from h2q.core.errors import CrystalError, ResourceError, UsageError
from h2q.crystal import CrystalWriter, open_crystal, verify_crystal
from h2q.crystal.exchange import exchange
from small_crystals import SPEC, fill, write_small

CHILD = Path(__file__).with_name("crystal_writer.py")


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    return write_small(tmp_path / "copy.crystal", seed=5, template="{{ messages }}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_whole(path: Path) -> bool:
    return all(check.ok for check in verify_crystal(path))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def command(target: Path, step: str = "") -> list[str]:
    return [sys.executable, str(CHILD), str(target), step]


STEPS = ["1", "100", "base - 1", "base", "tokenizer.json", "chat_template.jinja", "crystal.json"]


@pytest.mark.parametrize("step", [*STEPS, "certificate.json"])
@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_at_each_step(tmp_path: Path, crystal: Path, step: str, before: bool) -> None:
    """Nothing is left behind, and what stood there stands as it was."""
    base = (crystal / "base.safetensors").stat().st_size
    refined = (crystal / "refine-01.safetensors").stat().st_size
    assert refined > base  # so that step "base" means: the first refinement shard fails
    step = {"base": str(base), "base - 1": str(base - 1)}.get(step, step)
    target = crystal if before else tmp_path / "full.crystal"
    was = contents(crystal)
    result = subprocess.run(
        command(target, step), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.startswith(ResourceError.__name__), result.stdout + result.stderr
    assert "full" in result.stdout
    assert str(tmp_path) not in result.stdout
    assert contents(crystal) == was
    assert names(tmp_path) == ["copy.crystal"]


@pytest.mark.parametrize("round_", range(6))
def test_kill_leaves_a_whole_crystal(tmp_path: Path, round_: int) -> None:
    """Killed at any moment of writing over and over."""
    target = tmp_path / "killed.crystal"
    process = subprocess.Popen(command(target), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(round_).uniform(0, 0.06))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if at_once(tmp_path):
        assert is_whole(target)
    write_small(target)  # also sweeps what the dead writer left, and puts back what stepped aside
    assert is_whole(target)
    assert names(tmp_path) == ["killed.crystal"]


def at_once(folder: Path) -> bool:
    """Whether this system lets two folders change places in one step."""
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    done = exchange(one, other)
    one.rmdir()
    other.rmdir()
    return done


def test_two_folders_change_places(tmp_path: Path) -> None:
    if not at_once(tmp_path):
        pytest.skip("this file system cannot")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "nothing")


def test_a_cut_between_two_renames_is_mended(tmp_path: Path, crystal: Path) -> None:
    """As a writer leaves it that was killed where folders cannot change places in one step."""
    was = contents(crystal)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    crystal.rename(tmp_path / f".copy.crystal.{gone.pid}.old.growing")
    (tmp_path / f".copy.crystal.{gone.pid}.growing").mkdir()
    with pytest.raises(KeyError), CrystalWriter(crystal, SPEC, 0, overwrite=True):
        raise KeyError
    assert names(tmp_path) == ["copy.crystal"]
    assert contents(crystal) == was


def test_arrays_are_not_copied(tmp_path: Path, crystal: Path) -> None:
    """Planes mapped from a file are written from there."""
    opened = open_crystal(crystal)
    with CrystalWriter(tmp_path / "again.crystal", SPEC, 5) as writer:
        fill(writer, seed=5)
        for name in opened.manifest.bits:
            planes = opened.planes(name)
            assert not any(plane.codes.flags.owndata for plane in planes)
            writer.add_planes(name, planes)
            assert writer._planes[name] is planes
        writer.commit()
    for name in ("crystal.json", "base.safetensors", "refine-02.safetensors"):
        assert (tmp_path / "again.crystal" / name).read_bytes() == (crystal / name).read_bytes()


def test_arrays_that_are_not_contiguous(tmp_path: Path, crystal: Path) -> None:
    with CrystalWriter(tmp_path / "again.crystal", SPEC, 5) as writer:
        fill(writer, seed=5)
        for name, stack in list(writer._planes.items()):
            turned = [
                Plane(p.spec, np.asfortranarray(p.codes), np.repeat(p.scales, 2)[::2])
                for p in stack
            ]
            writer.add_planes(name, turned)
        writer.commit()
    again, first = tmp_path / "again.crystal", "base.safetensors"
    assert (again / first).read_bytes() == (crystal / first).read_bytes()


def test_a_chat_template_is_kept_as_it_is(tmp_path: Path) -> None:
    for text in (
        None,
        "",
        "{% for m in messages %}\r\n{{ m }} ü 中 🙂{% endfor %}",
        "x" * (1 << 20),
    ):
        path = write_small(tmp_path / "t.crystal", template=text)
        assert open_crystal(path).chat_template() == text
        assert is_whole(path)
    for bad, words in (("x" * ((1 << 20) + 1), "exceeds"), ("\ud800", "not Unicode")):
        with pytest.raises(CrystalError, match=words):
            write_small(tmp_path / "bad.crystal", template=bad)
        assert names(tmp_path) == ["t.crystal"]


def rewrite(crystal: Path, target: Path, overwrite: bool = False) -> None:
    """Write a crystal's content again, somewhere else."""
    opened = open_crystal(crystal)
    with CrystalWriter(target, opened.spec, opened.rotation_seed, overwrite) as writer:
        for name in opened.entries(0):
            if name.endswith("norm.weight"):
                writer.add_raw(name, opened.raw(name))
        for name in opened.manifest.bits:
            writer.add_planes(name, opened.planes(name))
        writer.rank([list(group) for group in opened.rank])
        writer.tokenizer(opened.tokenizer_path.read_text(encoding="utf-8"))
        writer.certificate({"format": 1})
        writer.commit()


def test_writing_again_gives_the_same_bytes(crystal: Path, tmp_path: Path) -> None:
    target = tmp_path / "again.crystal"
    rewrite(crystal, target)
    for name in ("crystal.json", "base.safetensors", "refine-01.safetensors"):
        assert (target / name).read_bytes() == (crystal / name).read_bytes()
    with pytest.raises(UsageError, match="already"):
        rewrite(crystal, target)
    rewrite(crystal, target, overwrite=True)
    assert all(check.ok for check in verify_crystal(target))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.crystal", "copy.crystal"]


def test_what_is_no_crystal_is_never_replaced(crystal: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "diary.txt").write_text("dear diary")
    with pytest.raises(UsageError, match="not a crystal"):
        rewrite(crystal, target, overwrite=True)
    assert (target / "diary.txt").read_text() == "dear diary"
