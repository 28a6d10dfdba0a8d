"""The store of installed models: names, shared blobs, mending, and what is left after a cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from h2q.core.errors import CrystalError, MissingModelError, UsageError
from h2q.crystal import open_crystal
from h2q.crystal.store import Store
from h2q.crystal.store_names import Details, OtherVersionError, store_name
from small_crystals import write_small

TESTS = Path(__file__).parent
DETAILS = Details(
    system="Be brief.",
    parameters=(("temperature", 0.5), ("stop", ("a", "b"))),
    messages=(("user", "Hi"), ("assistant", "Hello")),
    license=("MIT",),
    origin={"source": "here", "precision": "F16"},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def crystal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("small") / "a.crystal", 1, "{{ messages }}")


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.root / "blobs").iterdir()}


def test_a_crystal_is_installed_listed_and_opened(store: Store, crystal: Path) -> None:
    store.install(crystal, "Org/Small:v1", DETAILS)
    (model,) = store.models()
    assert str(model.name) == "Org/Small:v1"
    assert model.details == DETAILS
    card = model.card(None)
    assert (card.family, card.bits, card.context_length) == ("llama", "1+2+2+2+2 bits", 64)
    assert card.size == sum(f.stat().st_size for f in crystal.iterdir() if f.name[0] != ".")
    assert card.source == "here F16"
    folder = store.folder(store.find("org/small:V1"))  # whatever the case
    opened = open_crystal(folder)
    assert opened.chat_template() == "{{ messages }}"
    for file in crystal.glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_the_same_parts_are_stored_once(store: Store, crystal: Path, tmp_path: Path) -> None:
    store.install(crystal, "one", Details())
    before = blobs(store)
    other = write_small(tmp_path / "b.crystal", 1, "another template")
    store.install(other, "two", Details())
    assert len(blobs(store) - before) == 1  # the template
    one, two = (store.folder(store.find(name)) for name in ("one", "two"))
    assert one != two
    assert os.path.samefile(one / "base.safetensors", two / "base.safetensors")


def test_removing_a_name_removes_what_no_other_needs(store: Store, crystal: Path) -> None:
    store.install(crystal, "one", DETAILS)
    store.copy("one", "org/two")
    assert store.find("one").digest == store.find("org/two").digest
    store.delete("one")
    assert open_crystal(store.folder(store.find("org/two")))
    store.delete("org/two:latest")
    assert not blobs(store)
    assert not list((store.root / "names").iterdir())
    assert not list((store.root / "crystals").iterdir())
    with pytest.raises(MissingModelError):
        store.delete("one")


def test_a_name_that_is_written_anew_frees_the_old_parts(
    store: Store, crystal: Path, tmp_path: Path
) -> None:
    store.install(crystal, "one", Details())
    store.install(write_small(tmp_path / "b.crystal", 2), "ONE", Details())
    (model,) = store.models()
    assert blobs(store) == {f"sha256-{file.sha256}" for file in model.files}


def test_a_copy_of_a_damaged_crystal_is_refused(store: Store, tmp_path: Path) -> None:
    path = write_small(tmp_path / "b.crystal", 3)
    data = bytearray((path / "base.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "base.safetensors").write_bytes(data)
    with pytest.raises(CrystalError, match="checksum"):
        store.install(path, "bad", Details())
    assert store.models() == []
    store.collect()
    assert not blobs(store)


def test_damage_is_found_set_aside_and_mended(
    store: Store, crystal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = store.install(crystal, "one", Details())
    shard = next(file for file in model.files if file.name == "base.safetensors")
    blob = store.blobs.path(shard.sha256)
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert store.models()  # its size is right, nothing was read
    told = store.check()
    assert len(told) == 2  # the blob, and the name that needs it
    assert "set aside" in caplog.text
    assert store.models() == []
    assert len(list((store.root / "broken").iterdir())) == 3  # with the report
    store.install(crystal, "one", Details())
    assert store.check() == []
    assert (store.folder(store.find("one")) / shard.name).read_bytes() == (
        crystal / shard.name
    ).read_bytes()


def test_a_lost_folder_is_made_again(store: Store, crystal: Path) -> None:
    model = store.install(crystal, "one", Details())
    folder = store.folder(model)
    (folder / "base.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text("{}")
    assert open_crystal(store.folder(model)).tokenizer_path.read_text() == "{}\n"


def damaged_names() -> dict[str, bytes]:
    return {
        "empty": b"",
        "no json": b"\0" * 64,
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "bare": b"{}",
        "unchecked": json.dumps({"format": "h2q-name", "version": 1, "files": []}).encode(),
    }


@pytest.mark.parametrize("kind", damaged_names())
def test_a_broken_name_is_set_aside_and_harms_no_other(
    store: Store, crystal: Path, kind: str
) -> None:
    store.install(crystal, "sound", Details())
    store.install(crystal, "broken", Details())
    path = store.root.joinpath("names", *store_name("broken").parts)
    path.write_bytes(damaged_names()[kind])
    assert store.collect() == 0  # what it refers to is not known to be unused
    assert [str(model.name) for model in store.models()] == ["sound:latest"]
    assert not path.exists()
    with pytest.raises(MissingModelError):
        store.find("broken")


def test_a_manifest_cannot_point_outside(store: Store, crystal: Path) -> None:
    model = store.install(crystal, "one", Details())
    evil = replace(model, files=(replace(model.files[0], name="../../escape"), *model.files[1:]))
    store.root.joinpath("names", *model.name.parts).write_bytes(evil.to_bytes())
    with pytest.raises(CrystalError, match="malformed"):
        store.find("one")
    assert not (store.root / "escape").exists()


def test_a_name_of_a_later_version_stays(store: Store, crystal: Path) -> None:
    model = store.install(crystal, "one", Details())
    path = store.root.joinpath("names", *model.name.parts)
    later = path.read_bytes().replace(b'"version": 1', b'"version": 2')
    path.write_bytes(later)
    with pytest.raises(OtherVersionError):
        store.find("one")
    assert store.models() == []
    store.collect()
    assert path.read_bytes() == later
    assert blobs(store)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/../b", "/etc/passwd", "a:b:c", "a//b", "x" * 81, "a\0b", ".hidden", "é"],
)
def test_hostile_names_are_refused(store: Store, crystal: Path, name: str) -> None:
    with pytest.raises(UsageError, match="invalid model name"):
        store.install(crystal, name, Details())
    for work in (store.find, store.delete, lambda n: store.copy(n, "x")):
        with pytest.raises((UsageError, MissingModelError)):
            work(name)


def test_removing_waits_for_whoever_is_adding(
    store: Store, crystal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.crystal.store_lock.WAIT_SECONDS", 0.1)
    store.install(crystal, "one", Details())
    with store.lock.shared():
        assert store.delete("one") == 0  # the name is gone, the blobs are not yet
        assert blobs(store)
    assert store.collect() > 0
    assert not blobs(store)


def test_kill_at_any_moment_leaves_a_sound_store(tmp_path: Path) -> None:
    one = write_small(tmp_path / "a.crystal", 1)
    two = write_small(tmp_path / "b.crystal", 2)
    Store(tmp_path / "store").install(one, "kept", DETAILS)
    code = (
        "import sys; from pathlib import Path; from h2q.crystal.store import Store;"
        "from h2q.crystal.store_names import Details; s = Store(Path(sys.argv[1]));"
        "print('ready', flush=True)\n"
        "for i in range(100000):\n"
        "    s.install(Path(sys.argv[2 + i % 2]), f'new{i % 3}', Details())\n"
        "    if i % 3 == 2: s.delete('new0')\n"
    )
    for turn in range(5):
        command = [sys.executable, "-c", code, str(tmp_path / "store"), str(one), str(two)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(0.011 * (turn + 1))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        store = Store(tmp_path / "store")
        assert store.check() == []
        assert "kept:latest" in [str(model.name) for model in store.models()]
        assert open_crystal(store.folder(store.find("kept")))
    for model in store.models():
        store.delete(model.name)
    assert not blobs(store)
    assert not list((store.root / "incoming").iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, crystal: Path) -> None:
    store = Store(tmp_path / "store")
    store.install(crystal, "kept", Details())
    other = write_small(tmp_path / "b.crystal", 9)
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from h2q.crystal.store import Store; from h2q.crystal.store_names import Details;"
        "from h2q.core.errors import ResourceError;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try: Store(Path(sys.argv[1])).install(Path(sys.argv[2]), 'new', Details())\n"
        "except ResourceError as error: print(error)\n"
    )
    for room in (0, 100, 3000):
        command = [sys.executable, "-c", code, str(store.root), str(other), str(room)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "The disk is full" in told
        assert [str(model.name) for model in store.models()] == ["kept:latest"]
        assert store.check() == []
        assert not list((store.root / "incoming").iterdir())
