"""Another crystal behind a name while many ask: answers lost or mixed, the time of each step, and
the weights that old and new have in memory together.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from h2q.bench.machine import Neighbours, machine
from h2q.core.architecture import tensors
from h2q.core.asks import Ask
from h2q.core.errors import H2QError, ResourceError
from h2q.core.sampling_options import SamplingOptions
from h2q.crystal import CrystalWriter, open_crystal
from h2q.crystal.store_names import Details
from h2q.orchestrator.manner import Manner
from h2q.orchestrator.orchestrator import ResourceOrchestrator
from h2q.orchestrator.update import HotUpdate
from h2q.runtime import HotStartManager, Order, ProcessWorker, Spares, WorkerState

NAME = "model"
PROMPTS = ("Once upon a time", "The dog", "One day", "Lily saw a")


@dataclass(frozen=True)
class Crowd:
    """`people` who ask all the time, `tokens` of one answer, `updates`, in the middle of one of
    which the new process is killed. `budget` of memory, bytes.
    """

    people: int = 200
    tokens: int = 16
    updates: int = 20
    budget: int = 4 << 30


def cut_crystal(source: Path, target: Path, groups: int, scale: float = 1.0) -> Path:
    """A crystal of the first refinement groups of another, in the same shards; its norms multiplied
    by `scale`. Replaces what is at `target`.
    """
    crystal = open_crystal(source)
    seed = crystal.rotation_seed
    with CrystalWriter(target, crystal.spec, rotation_seed=seed, overwrite=True) as writer:
        for name in crystal.manifest.bits:
            writer.add_planes(name, list(crystal.planes(name, groups)))
        for tensor in tensors(crystal.spec):
            if not tensor.coded:
                writer.add_raw(tensor.name, np.array(crystal.raw(tensor.name)) * np.float32(scale))
        writer.rank([list(group) for group in crystal.rank[:groups]])
        writer.tokenizer(crystal.tokenizer_path.read_text(encoding="utf-8"))
        writer.chat_template(crystal.chat_template())
        writer.certificate({"format": 1, "cut": groups})
        writer.commit()
    return target


class Killed(ProcessWorker):
    """Its process is killed by somebody when it has just loaded its model."""

    async def start(self, order: Order) -> WorkerState:
        state = await super().start(order)
        os.kill(state.process, signal.SIGKILL)
        return state


class Crew:
    """An orchestrator over real processes, and all workers it ever made. `kind`: of the next."""

    def __init__(self, root: Path, crystal: Path, crowd: Crowd) -> None:
        self.spares, self.made, self.tokens = Spares(), list[ProcessWorker](), crowd.tokens
        self.kind: type[ProcessWorker] = ProcessWorker
        manner = Manner(budget=crowd.budget, order=Order("", streams=32, context=16384))
        self.house = ResourceOrchestrator(self.make, manner, root)
        self.house.store.install(crystal, NAME, Details())
        self.update = HotUpdate(self.house)

    async def make(self) -> ProcessWorker:
        self.made.append(self.kind(self.spares))
        return self.made[-1]

    async def ask(self, text: str) -> str:
        """A whole answer. Raises what breaks it off."""
        async with self.house.lease(NAME) as lease:
            pieces = [event async for event in lease.worker.generate(question(text, self.tokens))]
        return "".join(event.text for event in pieces)

    def processes(self) -> list[int]:
        """Those that live."""
        return [worker.process for worker in self.made if worker.process is not None]


@asynccontextmanager
async def crew(root: Path, crystal: Path, crowd: Crowd) -> AsyncIterator[Crew]:
    """Nothing of it is left in the end."""
    made = Crew(root, crystal, crowd)
    try:
        yield made
    finally:
        await made.update.close()
        await made.house.close(5.0)
        await made.spares.close()


def question(text: str, tokens: int) -> Ask:
    """Drawn, but the same each time."""
    sampling = SamplingOptions(temperature=1, seed=len(text), max_tokens=tokens)
    return Ask(prompt=text, raw=True, sampling=sampling)


def answers(crystal: Path, tokens: int) -> dict[str, str]:
    """What a crystal says to every prompt."""
    service = HotStartManager().start(crystal)
    try:
        return {
            text: "".join(event.text for event in service.generate(question(text, tokens)))
            for text in PROMPTS
        }
    finally:
        service.close()


async def updated_under_load(
    made: Crew, crystals: tuple[Path, Path], said: tuple[dict[str, str], ...], crowd: Crowd
) -> dict[str, Any]:
    """Counts and seconds; `said`: see answers, of both crystals."""
    stop, spoke = asyncio.Event(), asyncio.Condition()
    heard, lost = list[tuple[str, str]](), list[str]()
    whole = [set(one.items()) for one in said]

    async def person(number: int) -> None:
        text = PROMPTS[number % len(PROMPTS)]
        while not stop.is_set():
            try:
                heard.append((text, await made.ask(text)))
            except H2QError as error:
                lost.append(str(error))
            async with spoke:
                spoke.notify_all()

    async def heard_from(which: int) -> None:
        """Until somebody of the crowd has, or something is lost: nobody's turn is skipped."""
        async with spoke:
            await spoke.wait_for(lambda: lost or any(one in whole[which] for one in heard))

    people = [asyncio.ensure_future(person(number)) for number in range(crowd.people)]
    steps, wrong, rolled_back = list[dict[str, float]](), 0, 0
    retired = list[asyncio.Future[None]]()
    await heard_from(0)
    for number in range(crowd.updates):
        new = (number + 1) % 2
        if number == crowd.updates // 2:
            made.kind = Killed
            try:
                await made.update.replace(NAME, crystals[new])
            except ResourceError:
                rolled_back += 1
            made.kind = ProcessWorker
            wrong += await made.ask(PROMPTS[0]) != said[1 - new][PROMPTS[0]]
        done = await made.update.replace(NAME, crystals[new])
        steps.append(done.seconds)
        if done.retired is not None:
            retired.append(done.retired)
        wrong += await made.ask(PROMPTS[0]) != said[new][PROMPTS[0]]
        await heard_from(new)
    stop.set()
    await asyncio.gather(*people, *retired)
    return {
        "answers": len(heard),
        "lost": len(lost),
        "mixed": sum(not any(one in of for of in whole) for one in heard),
        "from_each": [sum(one in of for one in heard) for of in whole],
        "wrong_after_update": wrong,
        "rolled_back": rolled_back,
        "processes_left": len(made.processes()),
        "seconds": {step: median(one[step] for one in steps) for step in steps[0]},
        "most_seconds": max(sum(one.values()) for one in steps),
    }


def bench_hot_update(crystal: Path, folder: Path, crowd: Crowd | None = None) -> dict[str, Any]:
    """Plain JSON types. folder: a place for another crystal and a store."""
    crowd, neighbours = crowd or Crowd(), Neighbours()
    other = cut_crystal(crystal, folder / "other.crystal", len(open_crystal(crystal).rank) // 4)
    pair = (crystal, other)
    said = tuple(answers(one, crowd.tokens) for one in pair)

    async def work() -> dict[str, Any]:
        async with crew(folder / "store", crystal, crowd) as made:
            return await updated_under_load(made, pair, said, crowd)

    results = asyncio.run(work())
    results["shared"] = asyncio.run(mapped_together(folder / "shared", pair))
    return {"machine": machine(), "busy_elsewhere": neighbours.share(), "results": results}


async def mapped_together(root: Path, crystals: tuple[Path, Path]) -> dict[str, Any]:
    """Bytes of shards in memory of two workers, as each counts them (rss) and as the system shares
    them out (pss), when both have answered; Linux.
    """
    async with crew(root, crystals[0], Crowd()) as made:
        await made.ask(PROMPTS[0])
        async with made.house.lease(NAME) as lease:
            going = lease.worker.generate(question(PROMPTS[0], 64))
            await going.__anext__()
            done = await made.update.replace(NAME, crystals[1])
            await made.ask(PROMPTS[0])
            each = [mapped_shards(process) for process in made.processes()]
    sums = {kind: sum(one[kind] for one in each) for kind in ("Rss", "Pss")}
    return {"same_bytes": done.shared, "rss": sums["Rss"], "pss": sums["Pss"]}


def mapped_shards(process: int) -> dict[str, int]:
    """Of the shards a process has mapped: bytes by name of /proc/PID/smaps."""
    sums, counts = {"Rss": 0, "Pss": 0}, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.split(" ")[0]:
            counts = line.rstrip().endswith(".safetensors")
        elif counts and name in sums:
            sums[name] += int(rest.split()[0]) * 1024
    return sums
