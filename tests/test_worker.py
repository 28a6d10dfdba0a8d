"""Workers: a model in this process or in one of its own, behind the same calls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from h2q.core.asks import Ask, EmbedAsk
from h2q.core.errors import CrystalError, ResourceError, TextError, UsageError
from h2q.core.events import TokenEvent
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime import Control, HotStartManager, LocalWorker, Order, ProcessWorker, Spares, Worker

STORY = "Once upon a time"
PATIENCE = 120  # a bound on hangs, not on speed


def greedy(text: str = STORY, tokens: int = 16, **more: object) -> Ask:
    sampling = SamplingOptions(temperature=0, max_tokens=tokens)
    return Ask(prompt=text, raw=True, sampling=sampling, **more)  # type: ignore[arg-type]


async def said(worker: Worker, ask: Ask) -> str:
    return "".join([event.text async for event in worker.generate(ask)])


def loop(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work(), PATIENCE)

    asyncio.run(bounded())


@asynccontextmanager
async def process(path: Path, **order: object) -> AsyncIterator[ProcessWorker]:
    worker = ProcessWorker()
    await worker.start(Order(str(path), **order))  # type: ignore[arg-type]
    try:
        yield worker
    finally:
        await worker.stop()


def gone(number: int) -> bool:
    """Whether a process is no more, or only waits to be counted."""
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [LocalWorker, ProcessWorker])
def test_a_worker_says_what_a_service_says(kind: type[Worker], seed_path: Path) -> None:
    service = HotStartManager().start(seed_path)
    prompts = (STORY, "The dog", "Lily")
    expected = ["".join(e.text for e in service.generate(greedy(text, 24))) for text in prompts]
    tokens, every = service.count(greedy()), service.state().all_planes
    service.close()

    async def work() -> None:
        worker = kind()
        state = await worker.start(Order(str(seed_path)))
        try:
            assert (state.planes, state.running) == (every, 0)
            assert next(event.stage for event in state.timeline) == "map"
            found = await asyncio.gather(*(said(worker, greedy(text, 24)) for text in prompts))
            assert list(found) == expected
            assert await worker.count(greedy()) == tokens
            vectors = await worker.embed(EmbedAsk(("a cat", "a dog")))
            assert len(vectors.vectors) == 2 * 4 * vectors.width
            pinned = await worker.control(Control("pin", 1))
            assert pinned.pinned
            assert (pinned.process == os.getpid()) == (kind is LocalWorker)
            with pytest.raises(UsageError, match="no wish"):
                await worker.control(Control("fly"))
            with pytest.raises(UsageError, match="already"):
                await worker.start(Order(str(seed_path)))
        finally:
            await worker.stop()
        with pytest.raises(ResourceError, match="stopped"):
            await said(worker, greedy())
        await worker.stop()

    loop(work)


@pytest.mark.parametrize("kind", [LocalWorker, ProcessWorker])
def test_errors_keep_their_kind(kind: type[Worker], seed_path: Path, tmp_path: Path) -> None:
    async def work() -> None:
        worker = kind()
        with pytest.raises(UsageError, match="no model yet"):
            await said(worker, greedy())
        with pytest.raises(CrystalError):
            await worker.start(Order(str(tmp_path / "none")))
        await worker.stop()
        worker = kind()
        await worker.start(Order(str(seed_path)))
        try:
            with pytest.raises(UsageError, match="do not fit"):
                await said(worker, greedy("a dog " * 3000, truncate=False))
            broken = Ask(prompt="x", template="{{ raise_exception('no') }}")
            with pytest.raises(TextError):
                await said(worker, broken)
            with pytest.raises((UsageError, TextError)):
                await said(worker, greedy("\ud800"))
            assert await said(worker, greedy())
        finally:
            await worker.stop()

    loop(work)


@pytest.mark.parametrize("kind", [LocalWorker, ProcessWorker])
def test_who_leaves_frees_the_model_within_a_step(kind: type[Worker], seed_path: Path) -> None:
    async def work() -> None:
        worker = kind()
        await worker.start(Order(str(seed_path), streams=1))
        try:
            left = worker.generate(greedy(tokens=400))
            seen = [await anext(left)]
            await left.aclose()  # type: ignore[attr-defined]
            rest = asyncio.create_task(said(worker, greedy(tokens=400)))
            await asyncio.sleep(0)
            rest.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rest
            events = [event async for event in worker.generate(greedy(tokens=3))]
            assert events[0].token == seen[0].token  # the only place is free again
            state = await worker.control(Control("status"))
            assert (state.running, state.waiting, state.cache) == (0, 0, 0)
        finally:
            await worker.stop()

    loop(work)


@pytest.mark.parametrize("kind", [LocalWorker, ProcessWorker])
def test_a_slow_reader_waits_for_itself_alone(kind: type[Worker], seed_path: Path) -> None:
    async def work() -> None:
        worker = kind()
        await worker.start(Order(str(seed_path), streams=2))
        ask = Ask(
            tokens=(5, 9, 23),
            sampling=SamplingOptions(
                temperature=1, seed=3, max_tokens=900, logit_bias=((0, -100.0),)
            ),
        )
        try:
            expected = await said(worker, ask)
            slow = worker.generate(ask)
            begun = await anext(slow)
            state = await worker.control(Control("status"))
            behind = -1
            while behind != state.cache:  # until it rests: its cache grows no more
                behind = state.cache
                await said(worker, replace(ask, sampling=replace(ask.sampling, max_tokens=70)))
                state = await worker.control(Control("status"))
            assert state.running == 1
            assert state.cache < 900 * state.cache_capacity // state.context_length // 2
            rest = [event async for event in slow]
            assert rest[-1].index == 900
            assert begun.text + "".join(event.text for event in rest) == expected
        finally:
            await worker.stop()

    loop(work)


def test_a_killed_process_is_told_to_all_who_wait(seed_path: Path) -> None:
    async def work() -> None:
        async with process(seed_path) as worker:
            streams = [worker.generate(greedy(text, 400)) for text in (STORY, "The dog", "A")]
            for stream in streams:
                await anext(stream)
            number = worker.process
            assert number is not None
            os.kill(number, signal.SIGKILL)
            for stream in streams:
                with pytest.raises(ResourceError, match="SIGKILL"):
                    await drained(stream)
            assert gone(number)
            assert worker.process is None
            assert "SIGKILL" in str(await worker.ended())
            for call in (said(worker, greedy()), worker.control(Control("status"))):
                with pytest.raises(ResourceError, match="SIGKILL"):
                    await call

    loop(work)


async def drained(stream: AsyncIterator[TokenEvent]) -> None:
    async for _ in stream:
        pass


def test_stopping_ends_answers_and_frees_the_process(seed_path: Path) -> None:
    async def work() -> None:
        async with process(seed_path) as worker:
            stream = worker.generate(greedy(tokens=400))
            await anext(stream)
            number = worker.process
            assert number is not None
            await worker.stop()
            assert not psutil.pid_exists(number)
            with pytest.raises(ResourceError, match="stopped"):
                await drained(stream)

    loop(work)


def test_a_process_does_not_outlive_a_killed_parent(seed_path: Path) -> None:
    code = f"""
        import asyncio, os, signal
        from h2q.core.asks import Ask
        from h2q.runtime import Order, ProcessWorker, Spares

        async def work():
            spares = Spares()
            worker = ProcessWorker(spares)
            state = await worker.start(Order({str(seed_path)!r}))
            spare = await spares.take()
            await anext(worker.generate(Ask(prompt="x", raw=True)))
            print(state.process, spare.id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(work())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    loop(lambda: until(lambda: all(gone(int(number)) for number in done.stdout.split())))
    assert done.stderr == ""


def test_a_spare_is_handed_out_and_replaced(seed_path: Path) -> None:
    async def work() -> None:
        spares = Spares()
        spares.refill()
        first, second = ProcessWorker(spares), ProcessWorker(spares)
        try:
            one = await first.start(Order(str(seed_path)))
            waiting = await spares.take()
            os.kill(waiting.id, signal.SIGKILL)
            await until(lambda: not waiting.lives)
            spares._next = _made(waiting)  # as if it had died while it waited
            two = await second.start(Order(str(seed_path)))
            assert one.process != two.process != waiting.id
            assert await said(first, greedy()) == await said(second, greedy())
            last = await spares.take()
            spares.refill()
        finally:
            await first.stop()
            await second.stop()
            await spares.close()
        assert last.lives
        last.end()
        assert not psutil.pid_exists(last.id)
        with pytest.raises(ResourceError):
            await spares.take()

    from concurrent.futures import Future

    from h2q.runtime.child import Child

    def _made(child: Child) -> Future[Child]:
        future: Future[Child] = Future()
        future.set_result(child)
        return future

    loop(work)
