"""Many clients at once, each with one answer after the other: errors, memory, fairness."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from h2q.bench.serve_client import SILENT_SECONDS, Child, Wire, said
from h2q.core.errors import ResourceError
from h2q.core.events import Progress, ProgressListener

SAMPLE_SECONDS = 0.25
WARM = 0.2  # of the time, before memory is looked at
WINDOW = 0.1  # of the time: memory is the median over so much


@dataclass
class Client:
    """One of the crowd: tokens it got in whole answers, how many these were, and the speed of each
    that began after warming up and was not short, tokens/s.
    """

    tokens: int = 0
    answers: int = 0
    speeds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass
class Crowd:
    """What all of them saw in `seconds`, and the server's memory, bytes over time."""

    clients: list[Client]
    seconds: float
    resident: list[int]

    @property
    def errors(self) -> list[str]:
        return [error for client in self.clients for error in client.errors]

    @property
    def answers(self) -> int:
        return sum(client.answers for client in self.clients)

    @property
    def tokens_per_second(self) -> float:
        return sum(client.tokens for client in self.clients) / self.seconds

    @property
    def fairness(self) -> float:
        """The slowest client's tokens as a part of the fastest one's."""
        counts = [client.tokens for client in self.clients]
        return min(counts) / max(1, *counts)

    @property
    def stream_fairness(self) -> float:
        """The same of single answers after the warming up, when all of the crowd talk."""
        speeds = [speed for client in self.clients for speed in client.speeds]
        return min(speeds) / max(speeds) if speeds else 0.0

    @property
    def growth(self) -> float:
        """Memory at the end as a multiple of memory after warming up."""
        warm = self.resident[int(len(self.resident) * WARM) :]
        few = max(1, int(len(self.resident) * WINDOW))
        return statistics.median(warm[-few:]) / statistics.median(warm[:few])


def crowd(
    server: Child,
    wires: Sequence[Wire],
    model: str,
    clients: int,
    tokens: int,
    seconds: float,
    listen: ProgressListener,
) -> Crowd:
    """Let clients ask for answers of so many tokens, in the dialects by turns, until the time is
    over. Answers that end later are waited for but not counted.
    """
    return asyncio.run(_crowd(server, wires, model, clients, tokens, seconds, listen))


async def _crowd(
    server: Child,
    wires: Sequence[Wire],
    model: str,
    clients: int,
    tokens: int,
    seconds: float,
    listen: ProgressListener,
) -> Crowd:
    began = time.perf_counter()
    warm, until = began + WARM * seconds, began + seconds
    everyone = [Client() for _ in range(clients)]
    resident = list[int]()

    async def look() -> None:
        while (now := time.perf_counter()) < until:
            resident.append(server.resident())
            listen(Progress(f"{clients} clients", min(seconds, now - began), seconds, "seconds"))
            await asyncio.sleep(SAMPLE_SECONDS)

    works = [
        _one(
            server,
            wire := wires[i % len(wires)],
            wire.request(model, tokens),
            client,
            (warm, until),
            tokens,
        )
        for i, client in enumerate(everyone)
    ]
    await asyncio.gather(look(), *works)
    return Crowd(everyone, seconds, resident)


async def _one(
    server: Child,
    wire: Wire,
    request: bytes,
    client: Client,
    times: tuple[float, float],
    whole: int,
) -> None:
    """Tokens of a `whole` answer are the most it can have."""
    warm, until = times
    while (began := time.perf_counter()) < until and len(client.errors) < 3:
        try:
            count = said(await _answer(server.port, request), wire)
        except (OSError, ResourceError, asyncio.TimeoutError) as error:
            client.errors.append(f"{type(error).__name__}: {error}")
            continue
        if (now := time.perf_counter()) < until:
            client.tokens += count
            client.answers += 1
            if began > warm and count >= whole // 2:  # a model may end at once
                client.speeds.append(count / (now - began))


async def _answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        pieces = list[bytes]()
        while piece := await asyncio.wait_for(reader.read(1 << 16), SILENT_SECONDS):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        writer.close()
