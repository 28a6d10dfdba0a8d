"""A house of two names for the seed's crystal, its models in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from counted_worker import CountedWorker
from h2q.core.asks import Ask
from h2q.core.sampling_options import SamplingOptions
from h2q.crystal.store_names import Details
from h2q.orchestrator.house import Orchestrator
from h2q.orchestrator.manner import Manner
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.runtime.worker import Order

Story = Callable[[ResourceOrchestrator], Awaitable[None]]
Play = Callable[..., None]
ORDER = Order("", streams=4, context=2048)


async def make() -> CountedWorker:
    return CountedWorker()


@pytest.fixture
def play(tmp_path: Path, seed_path: Path) -> Callable[..., None]:
    """Runs a story in a house with the seed's crystal under two names, then closes the house."""

    def run(story: Story, **manner: object) -> None:
        async def main() -> None:
            kept = {"order": ORDER, "room_seconds": 0.2, **manner}
            house = ResourceOrchestrator(make, Manner(**kept), tmp_path / "home")  # type: ignore[arg-type]
            if not house.models():
                house.store.install(seed_path, "seed", Details())
                house.store.install(seed_path, "other", Details(template="{{ messages }}"))
            before = CountedWorker.alive
            try:
                await story(house)
            finally:
                await house.close(5.0)
            assert CountedWorker.alive == before
            assert house.running() == []

        asyncio.run(main())

    return run


def ask(tokens: int = 8) -> Ask:
    sampling = SamplingOptions(temperature=0, max_tokens=tokens)
    return Ask(prompt="Once upon a time", raw=True, sampling=sampling)


async def answer(
    house: ResourceOrchestrator, name: str = "seed", tokens: int = 8, keep: float | None = None
) -> str:
    async with house.lease(name, keep) as lease:
        return "".join([event.text async for event in lease.worker.generate(ask(tokens))])


def names(house: Orchestrator) -> list[str]:
    return [model.card.name for model in house.running()]


async def until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late
        await asyncio.sleep(0.005)
