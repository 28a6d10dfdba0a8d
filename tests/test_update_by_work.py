"""Models that are made anew, or put in the place of others, while they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from counted_worker import CountedWorker
from h2q.bench.hot_update import cut_crystal
from h2q.core.errors import QualityError
from h2q.crystal.store_names import Details
from h2q.orchestrator.happenings import Happening, LetGo, Restarted, Swapped
from h2q.orchestrator.house import Recipe, WorkEvent
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from houses import Play, answer, ask, names, play, until

__all__ = ["play"]
NEW = Recipe(base="other", template="new")


async def made(steps: object) -> list[str]:
    assert isinstance(steps, AsyncGenerator)
    return [step.status async for step in steps]


def hearing(house: ResourceOrchestrator) -> list[Happening]:
    """What happens to models from now on, states left out."""
    heard = list[Happening]()

    def hear(happening: Happening) -> None:
        if isinstance(happening, (LetGo, Restarted, Swapped)):
            heard.append(happening)

    house.listen(hear)
    return heard


def test_a_model_that_is_made_anew_takes_over_when_it_has_talked(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        heard = hearing(house)
        async with house.lease("seed", 120) as before:
            going = before.worker.generate(ask(60))
            await going.__anext__()
            started = CountedWorker.made
            assert (await made(house.create("seed", NEW)))[-1] == "success"
            assert CountedWorker.made == started + 1
            async with house.lease("seed") as after:
                assert after.order.template == "new"
                assert after.worker is not before.worker
                assert CountedWorker.made == started + 1  # nobody waited for it
            assert len([event async for event in going]) == 60
        await until(lambda: names(house) == ["seed:latest"])
        assert heard == [Swapped("seed:latest", "success"), LetGo("seed:latest", "replaced")]
        assert await made(house.create("seed", Recipe(base="seed", system="Be short.")))
        assert CountedWorker.made == started + 1  # the same worker serves that

    play(story)


def test_requests_go_to_the_old_model_until_then(play: Play, seed_path: Path) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        named, tried = asyncio.Event(), asyncio.Event()

        async def work(_: bool) -> AsyncGenerator[WorkEvent, None]:
            house.store.install(seed_path, "seed", Details(template="new"), collect=False)
            yield WorkEvent("writing manifest")
            await tried.wait()
            yield WorkEvent("success")

        async def run() -> None:
            async for _ in house.updates.around("seed", work):
                named.set()

        await answer(house)
        task = asyncio.ensure_future(run())
        await named.wait()
        async with house.lease("seed") as lease:
            assert lease.order.template is None
        tried.set()
        await task
        async with house.lease("seed") as lease:
            assert lease.order.template == "new"

    play(story)


def test_what_makes_no_sense_leaves_the_name_as_it_was(
    play: Play, tmp_path: Path, seed_path: Path
) -> None:
    dull = cut_crystal(seed_path, tmp_path / "dull", 0, scale=1e-6)

    async def story(house: ResourceOrchestrator) -> None:
        async def work(_: bool) -> AsyncGenerator[WorkEvent, None]:
            house.store.install(dull, "seed", Details(), collect=False)
            yield WorkEvent("success")

        heard, said = hearing(house), await answer(house)
        before = house.card("seed").digest
        with pytest.raises(QualityError, match="guesses"):
            await made(house.updates.around("seed", work))
        assert house.card("seed").digest == before
        assert await answer(house) == said
        assert heard == [Swapped("seed:latest", "rolled_back")]
        folders = house.store.root / "crystals"
        await until(lambda: len(list(folders.iterdir())) == 1)

    play(story)


def test_without_room_for_both_the_new_one_comes_behind(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        await answer(house)
        made_before = CountedWorker.made
        assert (await made(house.create("seed", NEW)))[-1] == "success"
        assert CountedWorker.made == made_before
        async with house.lease("seed") as lease:
            assert lease.order.template == "new"

    play(story, budget=200 << 20, room_seconds=60.0)  # the old one may have its time
