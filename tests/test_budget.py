"""A promise of memory: planned, kept while a long text is said, and refused with numbers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.bench.random_crystal import write_random
from h2q.bench.random_model import SHAPES
from h2q.core.asks import Ask
from h2q.core.errors import CrystalError, ResourceError, UsageError
from h2q.core.paging import trim
from h2q.core.sampling_options import SamplingOptions
from h2q.crystal import crystal_bytes, open_crystal
from h2q.crystal.manifest import shard_name
from h2q.crystallize import Options
from h2q.crystallize.budget import INTERPRETER as GROWN_FOR
from h2q.crystallize.budget import SERVED_CONTEXT, beside_bytes, budget_bytes
from h2q.engine.layer_stream import LayerStream
from h2q.engine.scheduler import STEP_ROWS
from h2q.engine.scratch import scratch_bytes
from h2q.runtime import HotStartManager
from h2q.runtime.budget import plan, shard_bytes, streamed_bytes
from h2q.runtime.opening import Opening
from h2q.runtime.pressure import RECOVERY, Pressure
from h2q.runtime.process import rss_bytes, rss_parts
from h2q.runtime.service import Service
from h2q.runtime.streamed import Streamed
from h2q.runtime.worker import Order

MIB = 1 << 20
INTERPRETER = 60 * MIB
SAMPLED = Path(__file__).parent / "sampled_run.py"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crystal of a few megabytes in five shards."""
    spec = replace(SHAPES["trial"], num_hidden_layers=9, intermediate_size=1536)
    return write_random(tmp_path_factory.mktemp("trial") / "trial.crystal", spec)


def made(path: Path, memory: int, **more: object):  # noqa: ANN201
    order = Order(str(path), memory, **more)  # type: ignore[arg-type]
    return plan(open_crystal(path), order, INTERPRETER)


def test_a_plan_fits_and_more_memory_is_never_worse(trial: Path) -> None:
    crystal = open_crystal(trial)
    before = None
    for memory in range(96 * MIB, 160 * MIB, MIB // 2):
        try:
            found = made(trial, memory)
        except ResourceError:
            assert before is None
            continue
        assert found.total <= memory
        assert found.context >= 256
        if not found.streamed:
            assert found.weights == shard_bytes(crystal, found.groups)
            assert found.scratch >= scratch_bytes(crystal.spec, found.rows, found.streams)
        key = (not found.streamed, found.groups)
        assert before is None or key >= before
        before = key
    assert before == (True, len(crystal.rank))
    roomy = made(trial, 1 << 30)
    assert roomy.context == crystal.spec.max_position_embeddings
    assert (roomy.rows, roomy.streams) == (256, 32)


def test_what_was_asked_for_is_kept_or_refused_with_numbers(trial: Path) -> None:
    least = made(trial, 1 << 30, context=4096, streams=1)
    assert least.context == 4096
    tight = least.total - least.weights - least.scratch
    with pytest.raises(ResourceError) as told:
        made(trial, tight, context=4096, streams=1)
    numbers = re.search(r"needs ([\d,]+) bytes", str(told.value))
    assert numbers is not None
    needed = int(numbers[1].replace(",", ""))
    assert made(trial, needed, context=4096, streams=1).context == 4096
    with pytest.raises(ResourceError):
        made(trial, needed - 1, context=4096, streams=1)
    largest = re.search(r"largest context that fits is ([\d,]+)", str(told.value))
    if largest is not None:
        context = int(largest[1].replace(",", ""))
        assert made(trial, tight, context=context, streams=1).context == context
        with pytest.raises(ResourceError):
            made(trial, tight, context=context + 64, streams=1)


def test_a_crystal_grown_for_a_memory_talks_whole_in_it(tmp_path: Path) -> None:
    """With the cache and the rows that were reckoned with, also where the vocabulary is large."""
    spec = replace(SHAPES["trial"], vocab_size=40_000, intermediate_size=4096)
    crystal = open_crystal(write_random(tmp_path / "wide.crystal", spec))
    size = crystal_bytes(crystal)
    memory = size + beside_bytes(spec)
    assert budget_bytes(spec, Options(memory=memory)) == size
    context = min(SERVED_CONTEXT, spec.max_position_embeddings)
    order = Order(str(crystal.path), memory, context=context, streams=1)
    found = plan(crystal, order, GROWN_FOR)
    assert (found.groups, found.rows) == (len(crystal.rank), STEP_ROWS)
    less = plan(crystal, replace(order, memory=memory - 2 * MIB), GROWN_FOR)
    assert (less.groups, less.rows) < (found.groups, found.rows)


def test_streaming_is_the_last_resort(trial: Path) -> None:
    crystal = open_crystal(trial)
    assert streamed_bytes(crystal) < shard_bytes(crystal, 0)
    least = next(
        memory
        for memory in range(90 * MIB, 160 * MIB, MIB // 8)
        if _possible(trial, memory, streams=1)
    )
    assert made(trial, least, streams=1).streamed
    with pytest.raises(ResourceError):
        made(trial, least, streams=1, draft=2)


def _possible(path: Path, memory: int, **more: object) -> bool:
    try:
        made(path, memory, **more)
    except ResourceError:
        return False
    return True


def process(path: Path, memory: int, *more: str) -> subprocess.CompletedProcess[str]:
    """One that keeps a promise and is watched from a thread of its own."""
    command = [sys.executable, str(SAMPLED), str(path), str(memory), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def sampled(path: Path, *more: str) -> dict[str, int]:
    """What it saw with the smallest promise that it can keep, and a little more. How much of the
    interpreter's files is resident differs from process to process.
    """
    done = process(path, 1)
    for _ in range(5):
        if done.returncode == 0:
            break
        told = re.search(r"needs ([\d,]+) bytes", done.stderr)
        assert told is not None, done.stderr
        done = process(path, int(told[1].replace(",", "")) + 4 * MIB, *more)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_long_text_stays_within_its_memory(seed_path: Path) -> None:
    found = sampled(seed_path)
    assert found["samples"] > 20
    assert found["tokens"] == 600
    assert max(found["most"], found["peak"]) <= found["memory"]


def test_a_kernel_limit_of_the_promise_is_not_felt(seed_path: Path) -> None:
    found = sampled(seed_path, "limited")
    if not found["limit"]:
        pytest.skip("no memory limit can be set here")
    assert found["tokens"] == 600
    assert found["peak"] <= found["memory"]


def test_layers_from_the_disk_say_the_same(trial: Path) -> None:
    opening = Opening(Order(str(trial), 1 << 30, streams=1))
    assert opening.plan is not None
    opening.plan = replace(opening.plan, streamed=True, weights=streamed_bytes(opening.crystal))
    opening.memory.reserved.clear()
    started = Streamed(opening)
    told = re.search(r"expect ([\d.e+]+) tokens/s", started.warning)
    assert told is not None
    assert float(told[1]) == pytest.approx(started.expected, rel=0.1)
    service = Service(started.order, started, alone=True)
    text = said(service)
    layers = started.layers
    assert layers.bytes >= 30 * started.bytes_per_token
    for _ in range(3):  # broken off in a layer, and begun again
        next(iter(layers))
    again = said(service)
    service.close()
    whole = HotStartManager().start(trial, pin=1)
    expected = said(whole)
    whole.close()
    assert text == again == expected


def said(service: Service) -> list[int]:
    """Tokens of a text."""
    sampling = SamplingOptions(temperature=0.9, seed=1, max_tokens=30)
    ask = Ask(prompt="The sea", raw=True, sampling=sampling)
    return [event.token for event in service.generate(ask)]


def test_a_shard_cut_short_under_way_is_told(trial: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trial, tmp_path / "m")
    crystal = open_crystal(copy)
    layers = LayerStream(crystal, 2, lambda count: np.zeros(count, np.uint8))
    with (copy / shard_name(0)).open("r+b") as file:
        file.truncate(crystal.manifest.files[0].bytes // 2)
    with pytest.raises(CrystalError, match="shorter"):
        for _ in layers:
            pass
    layers.close()


def test_pressure_sheds_and_recovers() -> None:
    trim()  # else the ballast finds room in what earlier work left behind
    guard = Pressure(rss_bytes() + 40 * MIB)
    assert guard.look() == 0
    ballast = np.ones(64 * MIB, np.uint8)
    guard._looked = 0.0
    assert guard.look() >= 2
    assert not guard.allows(1)
    del ballast
    guard._looked = 0.0
    assert guard.look() == 0
    assert not guard.allows(1)  # not before some time has passed
    guard._last -= RECOVERY
    assert guard.allows(1)
    assert not guard.allows(39 * MIB)


def test_a_model_at_rest_sheds_planes_and_takes_them_back(
    seed_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.runtime.pressure.RECOVERY", 0.1)
    trim()
    service = Service(Order(str(seed_path), rss_bytes() + 96 * MIB, streams=1))
    started = service.started
    every = started.all_planes
    assert started.planes == every
    ballast = np.ones(160 * MIB, np.uint8)
    assert _settled(lambda: started.planes == 1)
    assert service.state().pressure >= 2
    assert started.weights == crystal_bytes(open_crystal(seed_path), 0)
    del ballast
    assert _settled(lambda: started.planes == every)
    assert service.state().pressure == 0
    service.close()


def _settled(reached: Callable[[], bool]) -> bool:
    late = time.monotonic() + 120  # a bound on hangs, not on speed
    while not reached():
        if time.monotonic() > late:
            return False
        time.sleep(0.02)
    return True


def test_parts_of_the_resident_set_add_up() -> None:
    own, files = rss_parts()
    assert own > 0 < files
    assert abs(own + files - rss_bytes()) < 16 * MIB


def test_too_many_pinned_planes_are_refused(seed_path: Path) -> None:
    from h2q.runtime.starting import start

    every = 1 + len(open_crystal(seed_path).rank)
    with pytest.raises(UsageError, match="planes"):
        start(Order(str(seed_path)), pin=every + 1)
