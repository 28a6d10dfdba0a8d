"""A budget of bytes for several models: who makes room, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from h2q.core.errors import (
    BusyError,
    ResourceError,
)
from h2q.crystal.store_names import Details
from h2q.orchestrator.need import need_of
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.runtime.worker import Order
from houses import Play, answer, names, play

__all__ = ["play"]


def least_and_most(house: ResourceOrchestrator) -> tuple[int, int]:
    need = need_of(Order(house.folder("seed"), streams=4, context=2048), 1 << 40)
    return need.least, need.most


def test_the_least_recently_used_makes_room(play: Play, tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []

    async def measure(house: ResourceOrchestrator) -> None:
        found.append(least_and_most(house))

    async def story(house: ResourceOrchestrator) -> None:
        house.store.rename(house.shelf.find("seed").stored, "third", Details(template="x"))
        await answer(house, "seed", keep=-1)
        await answer(house, "other")
        await answer(house, "seed")
        await answer(house, "third")
        assert names(house) == ["seed:latest", "third:latest"]  # one wanted for ever stays longest
        await answer(house, "seed", keep=60)
        await answer(house, "third")
        await answer(house, "other")
        assert names(house) == ["third:latest", "other:latest"]
        assert sum(model.budget for model in house.running()) <= house.residents.room.budget
        async with house.lease("third"), house.lease("other"):
            with pytest.raises(BusyError) as caught:
                await answer(house, "seed")
            assert caught.value.retry_after > 0
            assert len(house.running()) == 2

    async def waits(house: ResourceOrchestrator) -> None:
        async with house.lease("third"), house.lease("other"):
            late = asyncio.ensure_future(answer(house, "seed"))
            await asyncio.sleep(0.02)
            assert not late.done()
        assert await late

    play(measure)
    least, most = found[0]
    play(story, budget=2 * most + least // 2)
    play(waits, budget=2 * most + least // 2, room_seconds=60.0)


def test_a_model_that_does_not_fit_in_full_gets_what_there_is(
    play: Play,
) -> None:
    found: list[tuple[int, int]] = []

    async def measure(house: ResourceOrchestrator) -> None:
        found.append(least_and_most(house))

    async def story(house: ResourceOrchestrator) -> None:
        async with house.lease("seed") as lease:
            assert lease.order.memory == house.residents.room.budget

    async def fails(house: ResourceOrchestrator) -> None:
        with pytest.raises(ResourceError, match="needs"):
            await answer(house)

    play(measure)
    least, most = found[0]
    play(story, budget=(least + most) // 2)
    play(fails, budget=least - 1)


def test_too_many_who_wait_are_sent_away(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        told = await asyncio.gather(*(answer(house) for _ in range(5)), return_exceptions=True)
        assert [isinstance(one, BusyError) for one in told] == [False] * 3 + [True] * 2
        assert not any(isinstance(one, BaseException) for one in told[:3])
        assert await answer(house)

    play(story, waiting=3)
