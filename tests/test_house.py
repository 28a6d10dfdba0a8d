"""The resource orchestrator over real crystals: leases, keep-alive, one loading for many."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from counted_worker import CountedWorker
from h2q.core.errors import (
    BusyError,
    CrystalError,
    MissingModelError,
    TextError,
    UsageError,
)
from h2q.crystal.store_names import Details
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.runtime.worker import Control
from houses import Play, answer, ask, names, play, until
from small_crystals import write_small

__all__ = ["play"]


def test_a_model_is_loaded_once_for_all_who_ask(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        made = CountedWorker.made
        told = await asyncio.gather(*(answer(house) for _ in range(12)))
        assert len(set(told)) == 1
        assert told[0]
        assert CountedWorker.made == made + 1
        house.copy("seed", "again")
        assert await answer(house, "again") == told[0]
        assert CountedWorker.made == made + 1  # another name of the same
        (running,) = house.running()
        assert running.card.name == "seed:latest"
        assert running.all_planes > 1
        assert running.planes == running.all_planes
        assert 0 < running.context_length <= 2048
        assert running.expires is not None
        assert 200 < running.expires - time.time() <= 300

    play(story)


def test_a_model_goes_when_its_time_is_over_and_not_before(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        await answer(house, keep=-1)
        assert house.running()[0].expires is None
        await answer(house, keep=0.05)
        await until(lambda: not house.running())
        async with house.lease("seed", 0) as lease:
            first = lease.worker.generate(ask(40))
            await first.__anext__()
            assert names(house) == ["seed:latest"]
            assert await house.unload("seed")
            assert len([event async for event in first]) == 40  # its answer is not cut
        await until(lambda: not house.running())
        assert not await house.unload("seed")
        await answer(house)
        assert await house.unload("SEED:latest")
        assert not house.running()
        with pytest.raises(MissingModelError):
            await house.control("seed", Control("status"))

    play(story)


def test_names_that_are_none_and_models_that_are_not_there(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        for name, error in (("", UsageError), ("../x", UsageError), ("nobody", MissingModelError)):
            with pytest.raises(error):
                house.card(name)
            with pytest.raises(error):
                await answer(house, name)
            with pytest.raises(error):
                await house.delete(name)
        assert house.card("Seed").name == "seed:latest"
        assert Path(house.folder("seed"), "crystal.json").is_file()
        assert [card.name for card in house.models()] == ["other:latest", "seed:latest"]

    play(story)


def test_a_failed_load_leaves_nothing_behind(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        small = write_small(tmp_path / "small.crystal")  # its tokenizer is none
        house.store.install(small, "small", Details())
        told = await asyncio.gather(
            *(answer(house, "small") for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(error, TextError) for error in told), told
        assert not house.running()
        assert house.residents.room.free == house.residents.room.budget
        model = house.shelf.find("seed")
        blob = house.store.blobs.path(model.stored.files[1].sha256)
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-64])
        with pytest.raises(CrystalError):
            await answer(house)
        assert not house.running()

    play(story)


def test_whoever_leaves_while_a_model_loads_keeps_nobody_from_it(
    play: Play,
) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        impatient = asyncio.ensure_future(answer(house))
        patient = asyncio.ensure_future(answer(house))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient
        with pytest.raises(asyncio.CancelledError):
            await impatient
        resident = house.residents.named(house.shelf.find("seed"))
        assert resident is not None
        assert resident.users == 0

    play(story)


def test_a_running_model_is_deleted(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        house.copy("seed", "again")
        await answer(house)
        await answer(house, "again")
        await house.delete("again")
        assert names(house) == ["seed:latest"]
        await house.delete("seed")
        assert not house.running()
        with pytest.raises(MissingModelError):
            await answer(house)
        await house.delete("other")
        assert not list((house.store.root / "blobs").iterdir())

    play(story)


def test_closing_waits_for_answers_and_takes_no_new_ones(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        long = asyncio.ensure_future(answer(house, tokens=40))
        await until(lambda: bool(house.running()) and house.running()[0].all_planes > 0)
        closing = asyncio.ensure_future(house.close(30.0))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await answer(house)
        await closing
        assert await long
        assert not house.running()

    play(story)
