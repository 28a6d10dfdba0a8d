"""Another crystal behind a name, while it is being asked: no answer is lost or mixed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from h2q import HotUpdate
from h2q.bench.hot_update import (
    NAME,
    PROMPTS,
    Crew,
    Crowd,
    answers,
    crew,
    cut_crystal,
    question,
    updated_under_load,
)
from h2q.core.errors import BusyError, CrystalError, H2QError, QualityError
from h2q.orchestrator.house import Updated

CROWD, WHOLE = Crowd(people=100, tokens=16, updates=2), Crowd(people=200, tokens=16, updates=20)
TEXT = PROMPTS[0]
Said = tuple[dict[str, str], dict[str, str]]
Play = Callable[..., None]


@pytest.fixture(scope="module")
def pair(seed_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """The seed's crystal without its last groups: the same shards, other texts; and what each of
    the two says to every prompt.
    """
    first, folder = answers(seed_path, CROWD.tokens), tmp_path_factory.mktemp("other")
    for groups in (2, 1, 0):
        other = cut_crystal(seed_path, folder / f"{groups}.crystal", groups)
        second = answers(other, CROWD.tokens)
        if not set(first.values()) & set(second.values()):
            return other, (first, second)
    raise AssertionError("Every prefix of the crystal says what the whole says.")


@pytest.fixture
def other_path(pair: tuple[Path, Said]) -> Path:
    return pair[0]


@pytest.fixture
def said(pair: tuple[Path, Said]) -> Said:
    return pair[1]


@pytest.fixture
def play(tmp_path: Path, seed_path: Path) -> Play:
    """Runs a story over a house with the seed's crystal; nothing of it is left."""

    def run(story: Callable[[Crew], Awaitable[None]], **other: int) -> None:
        async def main() -> None:
            async with crew(tmp_path / "home", seed_path, replace(CROWD, **other)) as made:
                await asyncio.wait_for(story(made), 400)  # a bound on hangs, not on speed
            assert made.processes() == []

        asyncio.run(main())

    return run


@pytest.mark.parametrize("crowd", [CROWD, pytest.param(WHOLE, marks=pytest.mark.long)])
def test_updates_under_load_lose_and_mix_nothing(
    play: Play, seed_path: Path, other_path: Path, said: Said, crowd: Crowd
) -> None:
    async def story(made: Crew) -> None:
        found = await updated_under_load(made, (seed_path, other_path), said, crowd)
        assert found["answers"] >= crowd.people
        assert (found["lost"], found["mixed"], found["wrong_after_update"]) == (0, 0, 0)
        assert (found["rolled_back"], found["processes_left"]) == (1, 1)
        assert all(found["from_each"])
        assert len(made.house.running()) == 1

    play(story, people=crowd.people, updates=crowd.updates)


def test_streams_end_on_the_old_model(
    play: Play, tmp_path: Path, seed_path: Path, other_path: Path, said: Said
) -> None:
    async def story(made: Crew) -> None:
        async with made.house.lease(NAME) as lease:
            going = lease.worker.generate(question(TEXT, CROWD.tokens))
            first = await going.__anext__()
            done = await made.update.replace(NAME, other_path)
            assert done.retired is not None
            assert done.before != done.after
            assert done.shared > (seed_path / "base.safetensors").stat().st_size
            assert set(done.seconds) == {"store", "verify", "start", "probe", "swap"}
            assert await made.ask(TEXT) == said[1][TEXT]
            assert len(made.processes()) == 2
            assert first.text + "".join([event.text async for event in going]) == said[0][TEXT]
            assert not done.retired.done()
        await done.retired
        assert len(made.processes()) == 1
        folders = [path.name for path in (tmp_path / "home" / "crystals").iterdir()]
        assert folders == [done.after]
        same = await made.update.replace(NAME, other_path)
        assert (same.before, same.retired) == (done.after, None)

    play(story)


def test_what_cannot_talk_changes_nothing(
    play: Play, tmp_path: Path, seed_path: Path, other_path: Path, said: Said
) -> None:
    damaged = shutil.copytree(other_path, tmp_path / "damaged")
    shard = damaged / "base.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    dull = cut_crystal(seed_path, tmp_path / "dull", 0, scale=1e-6)
    tries: tuple[tuple[Path, type[H2QError]], ...] = (
        (damaged, CrystalError),
        (tmp_path / "nowhere", CrystalError),
        (dull, QualityError),
    )

    async def story(made: Crew) -> None:
        for running in (False, True):
            for path, kind in tries:
                with pytest.raises(kind):
                    await made.update.replace(NAME, path)
                assert len(made.processes()) == running
                assert len(list((tmp_path / "home" / "crystals").iterdir())) == 1
            assert await made.ask(TEXT) == said[0][TEXT]
        room = made.house.residents.room
        assert room.budget - room.free == made.house.running()[0].budget

    play(story)


def test_without_room_beside_the_old_one_nothing_changes(
    play: Play, other_path: Path, said: Said
) -> None:
    async def story(made: Crew) -> None:
        await made.ask(TEXT)
        with pytest.raises(BusyError, match="free"):
            await made.update.replace(NAME, other_path)
        assert len(made.processes()) == 1
        assert await made.ask(TEXT) == said[0][TEXT]

    play(story, budget=200 << 20)


def test_a_model_that_does_not_run_is_tried_and_installed(
    play: Play, other_path: Path, said: Said
) -> None:
    async def story(made: Crew) -> None:
        assert isinstance(made.update, HotUpdate)
        done = await made.update.replace(NAME, other_path)
        assert done.planes > 0
        assert made.processes() == []
        assert made.house.running() == []
        assert await made.ask(TEXT) == said[1][TEXT]

    play(story)


def test_a_folder_is_watched(play: Play, tmp_path: Path, seed_path: Path, said: Said) -> None:
    place = shutil.copytree(seed_path, tmp_path / "grown.crystal")

    async def story(made: Crew) -> None:
        told: asyncio.Queue[Updated | H2QError] = asyncio.Queue()
        watching = asyncio.create_task(
            made.update.watch(NAME, place, told.put_nowait, seconds=0.05)
        )
        (place / "crystal.json").write_text("{}")
        assert isinstance(await told.get(), CrystalError)
        shutil.rmtree(place)
        await asyncio.to_thread(cut_crystal, seed_path, place, 2)
        assert isinstance(await told.get(), Updated)
        assert await made.ask(TEXT) == said[1][TEXT]
        watching.cancel()
        assert told.empty()

    play(story)
