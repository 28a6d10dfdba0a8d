"""A staged start: what comes when, what is said meanwhile, what goes and comes back."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from h2q.core.asks import Ask
from h2q.core.errors import CrystalError, ResourceError, UsageError
from h2q.core.paging import resident
from h2q.core.sampling_options import SamplingOptions
from h2q.crystal import open_crystal
from h2q.crystal.manifest import shard_name
from h2q.crystal.stamp import stamped
from h2q.engine.arriving import arrivals
from h2q.runtime.loading import Started
from h2q.runtime.opening import Opening
from h2q.runtime.service import Service
from h2q.runtime.staged import Staged
from h2q.runtime.starting import start
from h2q.runtime.worker import Control, Order

STORY = "Once upon a time"


def staged(path: Path, pin: int | None = None) -> Staged:
    """With all its stages, however small it is."""
    found = start(Order(str(path), streams=1), pin, small=0)
    assert isinstance(found, Staged)
    return found


def greedy(tokens: int) -> Ask:
    sampling = SamplingOptions(temperature=0, max_tokens=tokens)
    return Ask(prompt=STORY, raw=True, sampling=sampling)


def said(started: Started, tokens: int = 24) -> list[tuple[int, float, int]]:
    """Tokens, log-probabilities and planes of a greedy text; closes the model."""
    service = Service(started.order, started, alone=True)
    try:
        events = list(service.generate(greedy(tokens)))
    finally:
        service.close()
    return [(event.token, event.logprob, event.planes) for event in events[:-1]]


def test_the_base_lies_in_the_order_of_execution(seed_path: Path) -> None:
    crystal = open_crystal(seed_path)
    first, layers, last = arrivals(crystal)
    assert 0 < first < layers[0]
    assert layers == sorted(layers)
    assert layers[-1] <= last == (seed_path / shard_name(0)).stat().st_size


def test_stages_follow_each_other(seed_path: Path) -> None:
    started = staged(seed_path)
    service = Service(started.order, started, alone=True)
    seen: list[int] = []
    for event in service.generate(greedy(400)):
        seen.append(event.planes)
        if event.planes == started.all_planes:
            break
        if event.index == 2:
            started._refining.wait(started.all_planes - 1)
    assert seen[0] == 1
    assert seen == sorted(seen)
    assert seen[-1] == started.all_planes
    events = started.timeline
    stages = [event.stage for event in events]
    assert stages[0] == "map"
    assert stages.index("first layer") < stages.index("base")
    assert {"first token", f"plane {started.all_planes}", "full quality"} <= set(stages)
    assert [e.seconds for e in events] == sorted(e.seconds for e in events)
    by = {event.stage: event.bytes for event in events}
    base, *refinement = (file.bytes for file in started._crystal.manifest.files)
    assert by["base"] == by["first token"] == base  # refinement lets the first token pass
    assert by["full quality"] == base + sum(refinement)
    service.close()


def test_pinned_text_is_the_same_however_it_was_started(seed_path: Path) -> None:
    every = 1 + len(open_crystal(seed_path).rank)
    for pin in (1, 2, every):
        at_once = said(start(Order(str(seed_path), groups=pin - 1)))
        assert said(staged(seed_path, pin)) == at_once
        later = staged(seed_path)
        later.pin(pin)
        assert said(later) == at_once
        back = staged(seed_path)
        back.pin(every)
        back.between_steps()
        back.pin(pin)
        assert said(back) == at_once
        assert {planes for *_, planes in at_once} == {pin}


def test_planes_go_and_their_memory_with_them(seed_path: Path) -> None:
    started = staged(seed_path)
    started.pin(started.all_planes)
    started.between_steps()
    last = started.all_planes - 1
    data = started._crystal.mapped(last)
    assert resident(data.ctypes.data, data.nbytes) >= data.nbytes
    weights = started.weights
    started.pin(None)
    started.drop()
    assert started.between_steps()
    assert started.planes == last
    assert started.weights == weights - data.nbytes
    assert shard_name(last) not in started._crystal._maps
    started.refine()
    started._refining.wait(last)
    assert started.between_steps()
    assert started.planes == started.all_planes
    started.close()
    with pytest.raises(UsageError, match="planes"):
        started.pin(started.all_planes + 1)


def damaged(seed_path: Path, target: Path, shard: int) -> Path:
    """A copy whose row scales in one shard are not numbers; no stamp speaks against it."""
    shutil.copytree(seed_path, target)
    crystal = open_crystal(target)
    name = next(n for n in reversed(crystal.entries(shard)) if ".scales." in n)
    entry = crystal.entries(shard)[name]
    with (target / shard_name(shard)).open("r+b") as file:
        file.seek(entry.begin)
        file.write(b"\xff" * (entry.end - entry.begin))
    return target


def test_what_is_damaged_is_told_where_it_is_waited_for(
    seed_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.crystal.reader.stamped", lambda *_: True)
    with pytest.raises(CrystalError, match="not finite"):
        said(staged(damaged(seed_path, tmp_path / "base", 0)))
    started = staged(damaged(seed_path, tmp_path / "refined", 1))
    assert {planes for *_, planes in said(started)} == {1}
    started = staged(tmp_path / "refined")
    started.pin(2)
    with pytest.raises(CrystalError, match="not finite"):
        started.between_steps()
    started.close()


def test_refinement_is_proven_while_it_comes_in(seed_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(seed_path, tmp_path / "m"))
    (copy / ".verified.json").unlink()
    sound = staged(copy, 2)
    assert not (copy / ".verified.json").exists()  # not yet all of it
    every = sound.all_planes
    sound.close()
    whole = staged(copy, every)
    whole.close()
    assert stamped(copy, sorted(copy.glob("*.safetensors")))
    (copy / ".verified.json").unlink()
    with (copy / shard_name(2)).open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)
        file.seek(-100, 2)
        file.write(bytes([byte[0] ^ 1]))
    assert staged(copy, 2).planes == 2
    with pytest.raises(CrystalError, match="checksum"):
        staged(copy, 3)
    assert not (copy / ".verified.json").exists()


def test_a_missing_tensor_is_told_at_once(seed_path: Path, tmp_path: Path) -> None:
    shutil.copytree(seed_path, tmp_path / "m")
    (tmp_path / "m" / shard_name(0)).write_bytes(
        (seed_path / shard_name(0)).read_bytes().replace(b"layers.1.", b"layers.9.")
    )
    crystal = open_crystal(seed_path)
    broken = type(crystal)(tmp_path / "m", crystal.manifest)
    with pytest.raises(CrystalError, match="missing"):
        broken.require(0)


def test_an_idle_model_takes_planes_and_gives_them_back(seed_path: Path) -> None:
    service = Service(Order(str(seed_path)), staged(seed_path))
    news = threading.Event()
    wake = service.started.wake
    assert wake is not None
    every = service.state().all_planes

    def settled(planes: int) -> bool:
        late = time.monotonic() + 120  # a bound on hangs, not on speed
        while service.state().planes != planes:
            if time.monotonic() > late:
                return False
            news.wait(0.02)
        return True

    assert settled(every)
    assert service.control(Control("drop")).all_planes == every
    assert settled(every - 1)
    service.control(Control("refine"))
    assert settled(every)
    stages = [event.stage for event in service.state().timeline]
    assert stages.count("full quality") == 1
    service.close()


def test_a_start_that_fails_leaves_no_thread(seed_path: Path, tmp_path: Path) -> None:
    shutil.copytree(seed_path, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(Exception, match="okenizer"):
        staged(tmp_path / "m")
    until = time.monotonic() + 30
    while not {thread.name for thread in threading.enumerate()} <= before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_base_is_what_is_read_first(seed_path: Path) -> None:
    opening = Opening(Order(str(seed_path)))
    started = Staged(opening, 1)
    assert started.planes == 1
    assert started.weights < sum(file.bytes for file in opening.crystal.manifest.files)
    tokens = np.array([[1, 2, 3]])
    logits = started.model.forward(tokens, started.model.new_cache())
    assert np.isfinite(logits).all()
    started.close()


def test_a_start_can_be_broken_off(seed_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, released = 1 << 16, threading.Event()
    opening = Opening(Order(str(seed_path)))
    quick = threading.Semaphore(1 + arrivals(opening.crystal)[0] // chunk)  # the embedding

    def slow(address: int, count: int) -> None:
        if not quick.acquire(blocking=False):
            released.wait(60)

    monkeypatch.setattr("h2q.runtime.read_ahead.populate", slow)
    monkeypatch.setattr("h2q.runtime.read_ahead.CHUNK", chunk)
    started = Staged(opening, small=0)
    threading.Timer(0.2, released.set).start()
    started.close()
    with pytest.raises(ResourceError, match="stopped"):
        started.model.forward(np.array([[1]]), started.model.new_cache())
