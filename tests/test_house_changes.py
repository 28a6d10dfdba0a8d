"""Models that change under their users: workers that die or are replaced, names, uploads."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counted_worker import CountedWorker
from h2q.core.errors import (
    ResourceError,
    UsageError,
)
from h2q.crystal.store_names import Details
from h2q.orchestrator import listening as house_times
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.runtime.worker import Order
from houses import Play, answer, ask, names, play, until

__all__ = ["play"]


def test_a_worker_that_dies_is_replaced(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_times, "LISTEN_SECONDS", 0.05)

    async def story(house: ResourceOrchestrator) -> None:
        with pytest.raises(ResourceError):
            await killed(house)
        assert await answer(house)
        async with house.lease("seed") as lease:
            assert isinstance(lease.worker, CountedWorker)
        await lease.worker.die()  # while nobody looks
        await until(lambda: not house.running())
        assert await answer(house)

    play(story)


async def killed(house: ResourceOrchestrator) -> None:
    """An answer whose worker dies after the first word."""
    async with house.lease("seed") as lease:
        going = lease.worker.generate(ask(200))
        await going.__anext__()
        assert isinstance(lease.worker, CountedWorker)
        await lease.worker.die()
        async for _ in going:
            pass


def test_another_worker_takes_over_while_streams_end_on_the_old_one(
    play: Play, tmp_path: Path
) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        async with house.lease("seed", 120) as before:
            going = before.worker.generate(ask(60))
            await going.__anext__()
            old = house.shelf.find("seed")
            house.store.rename(old.stored, "seed", Details(template="new"))
            fresh = CountedWorker()
            order = Order(house.folder("seed"), streams=4, context=2048, template="new")
            await fresh.start(order)
            await house.swap("seed", fresh, order)
            assert sorted(names(house)) == ["seed:latest", "seed:latest"]
            async with house.lease("seed") as after:
                assert after.worker is fresh
                assert after.load_seconds < 1
                assert after.order is order
            assert len([event async for event in going]) == 60
        await until(lambda: names(house) == ["seed:latest"])
        async with house.lease("seed") as after:
            assert after.worker is fresh
        (running,) = house.running()
        assert running.expires is not None
        assert 60 < running.expires - time.time() <= 120  # how long it stays is as it was

    play(story)


def test_a_name_that_means_another_model_loads_that_one(play: Play) -> None:
    async def story(house: ResourceOrchestrator) -> None:
        await answer(house)
        made = CountedWorker.made
        house.store.rename(house.shelf.find("seed").stored, "seed", Details(template="new"))
        async with house.lease("seed") as lease:
            assert lease.order.template == "new"
            assert CountedWorker.made == made + 1
        await until(lambda: len(house.running()) == 1)

    play(story)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


def test_uploads_are_proven(play: Play) -> None:
    data = bytes(range(256)) * 40
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    async def story(house: ResourceOrchestrator) -> None:
        assert not house.has_blob(digest)
        with pytest.raises(UsageError, match="digest mismatch"):
            await house.add_blob("sha256:" + "0" * 64, pieces(data))
        assert list(house.uploads.folder.rglob("*")) == [house.uploads.folder / "blobs"]
        assert await house.add_blob(digest, pieces(data))
        assert house.has_blob(digest.upper().replace("SHA256", "sha256"))
        assert not await house.add_blob(digest, pieces(b""))
        assert house.uploads.path(digest).read_bytes() == data
        for odd in ("", "sha256:12", "md5:" + "0" * 64, "sha256:" + "../" * 22):
            with pytest.raises(UsageError):
                house.has_blob(odd)

    play(story)
