"""The house with real worker processes: promises kept, processes that are killed, nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from h2q.core.errors import ResourceError
from h2q.core.events import TokenEvent
from h2q.crystal.store_names import Details
from h2q.orchestrator.manner import Manner
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.runtime import ProcessWorker
from h2q.runtime.worker import Control, Order
from houses import answer, ask, names, until


def play(home: Path, crystal: Path, story: Callable[..., object]) -> None:
    async def main() -> None:
        house = ResourceOrchestrator(manner=Manner(order=Order("", streams=4)), root=home)
        house.store.install(crystal, "seed", Details())
        try:
            await story(house)  # type: ignore[misc]
        finally:
            await house.close(5.0)
        assert psutil.Process().children() == []

    asyncio.run(main())


async def to_the_end(going: AsyncIterator[TokenEvent]) -> None:
    async for _ in going:
        pass


def test_a_process_answers_within_its_promise_and_is_replaced_when_it_is_killed(
    tmp_path: Path, seed_path: Path
) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        told = await asyncio.gather(*(answer(house) for _ in range(4)))
        assert len(set(told)) == 1
        (running,) = house.running()
        state = await house.control("seed", Control("status"))
        assert state.planes == state.all_planes
        assert 0 < state.resident <= running.budget == state.budget
        assert state.context_length == running.card.context_length
        os.kill(state.process, signal.SIGKILL)
        await until(lambda: not house.running())  # nobody asked: it was noticed
        assert await answer(house) == told[0]
        (process,) = [one.process for one in [await house.control("seed", Control("status"))]]
        async with house.lease("seed") as lease:
            going = lease.worker.generate(ask(2000))
            await going.__anext__()
            os.kill(process, signal.SIGKILL)
            with pytest.raises(ResourceError, match="SIGKILL"):
                await to_the_end(going)
        assert await answer(house) == told[0]

    play(tmp_path / "home", seed_path, story)


def test_another_process_takes_over(tmp_path: Path, seed_path: Path) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        async with house.lease("seed") as before:
            going = before.worker.generate(ask(300))
            await going.__anext__()
            fresh = ProcessWorker()
            order = Order(house.folder("seed"), streams=4)
            await fresh.start(order)
            began = time.perf_counter()
            await house.swap("seed", fresh, order)
            assert await answer(house)
            assert time.perf_counter() - began < 60  # it waits for no stream
            assert len(names(house)) == 2
            assert [event async for event in going][-1].finish
        await until(lambda: len(names(house)) == 1)
        assert house.running()[0].budget > 0

    play(tmp_path / "home", seed_path, story)
