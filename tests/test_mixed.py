"""A mixture that does not fit its memory: planned, started, pinned, told of."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from h2q.bench.expert_run import least_memory
from h2q.bench.mixtures import mixture
from h2q.bench.random_mixture import write_mixture
from h2q.core.asks import Ask
from h2q.core.errors import ResourceError, UsageError
from h2q.core.paging import trim
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime import opening, pressure, process
from h2q.runtime.frames import State, frame, reply
from h2q.runtime.mixed import Mixed
from h2q.runtime.process import rss_bytes
from h2q.runtime.service import Service
from h2q.runtime.starting import start
from h2q.runtime.worker import Control, Order

SEED = Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed" / "tokenizer.json"
ROOM = 9 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("mixed") / "a.crystal"
    words = SEED.read_text(encoding="utf-8")
    write_mixture(target, mixture("trial"), (1, 1), tokenizer=words, pool=1 << 20)
    return str(target)


@pytest.fixture
def least(path: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """What the model needs in this process. Plans go by what it holds now, and nobody is in need
    later: the memory of earlier tests, and of this machine, comes and goes when it likes.
    """

    def needed() -> int:
        for _ in range(3):
            gc.collect()
            trim()
        held = rss_bytes()
        monkeypatch.setattr(process, "rss_bytes", lambda: held)
        monkeypatch.setattr(opening, "rss_parts", lambda: (held, 0))
        monkeypatch.setattr(pressure, "rss_bytes", lambda: held)
        monkeypatch.setattr(pressure, "machine_level", lambda: 0)
        return least_memory(path)

    return needed


def said(service: Service, planes: int | None = None) -> list[int]:
    sampling = SamplingOptions(temperature=0, max_tokens=8)
    ask = Ask(prompt="Once upon a time", raw=True, sampling=sampling, planes=planes)
    return [event.token for event in service.generate(ask)]


def test_pinned_planes_say_what_the_model_in_memory_says(
    path: str, least: Callable[[], int]
) -> None:
    whole = Service(Order(path, context=256))
    expected = {planes: said(whole, planes) for planes in (1, 2)}
    assert whole.state().experts is None
    whole.close()
    service = Service(Order(path, memory=least() + ROOM, context=256, streams=1))
    assert isinstance(service.started, Mixed)
    assert "expect" in service.started.warning or service.started.expected > 20
    for planes in (2, 1, 2, 1):  # the last leaves base planes alone in memory
        assert said(service, planes) == expected[planes]
    state = service.state()
    assert state.experts is not None
    assert 0 < state.experts.resident <= state.experts.peak <= state.experts.budget
    assert state.experts.budget < state.experts.every
    assert state.experts.misses > 0
    assert state.experts.degraded == 0
    assert said(service)
    assert service.state().experts.degraded > 0  # type: ignore[union-attr]
    told = reply(frame(State(1, state))[4:])
    assert isinstance(told, State)
    assert told.state == state
    before = state.experts.budget
    service.control(Control("drop"))
    assert service.state().experts.budget < before  # type: ignore[union-attr]
    service.close()


def test_what_cannot_be_is_refused_with_numbers(path: str, least: Callable[[], int]) -> None:
    needed = least()
    with pytest.raises(ResourceError, match=r"MiB"):
        start(Order(path, memory=needed // 2, streams=1))
    with pytest.raises(UsageError, match="Drafts"):
        start(Order(path, memory=needed + ROOM, streams=1, draft=2))
    with pytest.raises(UsageError, match="planes"):
        start(Order(path, memory=needed + ROOM, streams=1), pin=3)
