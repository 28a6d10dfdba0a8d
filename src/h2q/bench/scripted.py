"""A scripted engine: a house of one model that says what it was told to, so that what a server
costs by itself can be measured and tested.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.cards import ModelCard, RunningModel
from h2q.core.errors import CrystalError, H2QError, MissingModelError, UsageError
from h2q.core.events import Alternative, Part, TokenEvent, Usage
from h2q.orchestrator.happenings import Hearer
from h2q.orchestrator.house import Lease, Recipe, Updated, WorkEvent
from h2q.runtime.worker import Control, Order, WorkerState

CARD = ModelCard(
    name="scripted:latest",
    digest="5c" * 32,
    size=1 << 20,
    modified=1.7e9,
    family="llama",
    parameters=260_000,
    bits="2+2 bits",
    context_length=2048,
    embedding_length=64,
    capabilities=("completion", "tools", "insert", "embedding", "thinking"),
)
WORDS = ("Once", " upon", " a", " time", " there", " was", " a", " crystal", ".")
KEPT = 1000  # of the last asks, and of the moments of tokens


@dataclass
class Script:
    """What is said, over and over until `tokens` are out; seconds between tokens; the error after
    how many. `parts` instead of words: one token each. `stop`: the stop text that ends it.
    """

    words: tuple[str, ...] = WORDS
    parts: tuple[Part, ...] = ()
    tokens: int = len(WORDS)
    pause: float = 0.0
    fail_after: int = -1
    error: H2QError | None = None
    load_seconds: float = 0.0
    stop: str = ""


@dataclass
class ScriptedWorker:
    """Answers from the script, remembers what it was asked, how many tokens it made and when it
    made the last of them.
    """

    script: Script = field(default_factory=Script)
    asks: list[Ask] = field(default_factory=list)
    made: int = 0
    closed: int = 0
    running: int = 0
    planes: int = 2
    times: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    async def start(self, order: Order) -> WorkerState:
        return self._state()

    async def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        script, begun = self.script, time.perf_counter()
        self.asks.append(ask)
        del self.asks[:-KEPT]
        most = ask.sampling.max_tokens
        count = len(script.parts) or script.tokens
        wanted = count if most is None else min(count, most)
        self.running += 1
        try:
            for index in range(wanted):
                if index == script.fail_after and script.error:
                    raise script.error
                await asyncio.sleep(script.pause)
                now = time.perf_counter()
                self.made += 1
                self.times.append(now)
                yield self._token(ask, index, now - begun)
            finish = "length" if wanted < count else "stop"
            total = time.perf_counter() - begun
            stop = script.stop if finish == "stop" else ""
            usage = Usage(5, wanted, cached=3, prompt=total / 2, total=total, stop=stop)
            yield TokenEvent(-1, "", 0.0, wanted, 2, total, finish=finish, usage=usage)
        finally:
            self.running -= 1
            self.closed += 1

    def _token(self, ask: Ask, index: int, seconds: float) -> TokenEvent:
        script = self.script
        part = (
            script.parts[index]
            if script.parts
            else Part("content", script.words[index % len(script.words)])
        )
        parts = (part,) if ask.split and part.text else ()
        event = TokenEvent(index, part.text, -0.5, index, 2, seconds, parts=parts)
        if ask.sampling.top_logprobs:
            found = (Alternative(index, part.text, -0.5), Alternative(0, "?", -1.5))
            event = replace(event, piece=part.text, alternatives=found[: ask.sampling.top_logprobs])
        return event

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        import struct

        row = struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)
        return Embeddings(row * len(ask.texts), 4, sum(map(len, ask.texts)))

    async def count(self, ask: Ask) -> int:
        return 5

    async def control(self, control: Control) -> WorkerState:
        if control.wish == "pin" and control.planes:
            self.planes = control.planes
        return self._state()

    def _state(self) -> WorkerState:
        return WorkerState(
            fingerprint=CARD.digest,
            process=1,
            planes=self.planes,
            all_planes=2,
            pinned=self.planes != 2,
            context_length=2048,
            running=self.running,
            waiting=0,
            resident=64 << 20,
            weights=1 << 20,
            cache=1 << 10,
            cache_capacity=1 << 20,
            scratch=1 << 16,
            budget=0,
            pressure=0,
            prefix_hits=0,
        )

    async def stop(self) -> None:
        return


class ScriptedHouse:
    """One model, copies of its name, blobs in memory."""

    def __init__(self, script: Script | None = None, card: ModelCard = CARD) -> None:
        self.worker = ScriptedWorker(script or Script())
        self.cards = {card.name.lower(): card}
        self.kept: dict[str, float | None] = {}
        self.blobs: dict[str, bytes] = {}
        self.recipes: list[tuple[str, Recipe]] = []
        self.hearers: list[Hearer] = []
        self.leases = 0

    def card(self, name: str) -> ModelCard:
        if not name:
            raise UsageError("A model's name is needed.")
        full = name.lower() if ":" in name else f"{name.lower()}:latest"
        if full not in self.cards:
            raise MissingModelError("No installed model has that name.", where=name)
        return self.cards[full]

    @asynccontextmanager
    async def lease(self, name: str, keep_alive: float | None = None) -> AsyncIterator[Lease]:
        card = self.card(name)
        await asyncio.sleep(self.worker.script.load_seconds)
        self.leases += 1
        try:
            yield Lease(self.worker, card, Order("scripted"), self.worker.script.load_seconds)
        finally:
            self.leases -= 1
            if keep_alive == 0:
                self.kept.pop(card.name, None)
            else:
                self.kept[card.name] = keep_alive

    async def unload(self, name: str) -> bool:
        return self.kept.pop(self.card(name).name, "") != ""

    async def control(self, name: str, control: Control) -> WorkerState:
        if self.card(name).name not in self.kept:
            raise MissingModelError("The model does not run.", where=name)
        return await self.worker.control(control)

    def models(self) -> Sequence[ModelCard]:
        return sorted(self.cards.values(), key=lambda card: -card.modified)

    def running(self) -> Sequence[RunningModel]:
        def ends(keep: float | None) -> float | None:
            return None if keep is not None and keep < 0 else time.time() + (keep or 300.0)

        return [
            RunningModel(self.card(name), 64 << 20, 0, 2, 2, 2048, ends(keep))
            for name, keep in self.kept.items()
        ]

    def listen(self, hear: Hearer) -> None:
        self.hearers.append(hear)

    def folder(self, name: str) -> str:
        return self.card(name).name

    def copy(self, source: str, destination: str) -> None:
        name = destination if ":" in destination else f"{destination}:latest"
        self.cards[name.lower()] = replace(self.card(source), name=name)

    async def delete(self, name: str) -> None:
        self.cards.pop(self.card(name).name.lower())

    async def pull(self, name: str) -> AsyncIterator[WorkEvent]:
        yield WorkEvent("pulling manifest")
        if name.startswith("nowhere"):
            raise MissingModelError("There is no such model to pull.", where=name)
        for done in (0, 50, 100):
            yield WorkEvent("pulling 5c5c5c5c5c5c", "sha256:" + "5c" * 32, 100, done)
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield WorkEvent(status)
        full = name if ":" in name else f"{name}:latest"
        self.cards[full.lower()] = replace(CARD, name=full)

    async def create(self, name: str, recipe: Recipe) -> AsyncIterator[WorkEvent]:
        self.recipes.append((name, recipe))
        yield WorkEvent("using existing layer sha256:" + "5c" * 32)
        yield WorkEvent("writing manifest")
        yield WorkEvent("success")
        grown = not recipe.base or recipe.base.startswith("ollama:")
        self.copy(CARD.name if grown else recipe.base, name)

    async def replace(self, name: str, crystal: Path) -> Updated:
        card = self.card(name)
        if not crystal.is_dir():
            raise CrystalError("There is no crystal.", where=crystal.name)
        after = hashlib.sha256(crystal.name.encode()).hexdigest()
        self.cards[card.name.lower()] = replace(card, digest=after)
        return Updated(card.name, card.digest, after, 2, 0, {"swap": 0.001})

    def has_blob(self, digest: str) -> bool:
        return self._checked(digest) in self.blobs

    async def add_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        if self._checked(digest) in self.blobs:
            return False
        data = b"".join([chunk async for chunk in chunks])
        got = "sha256:" + hashlib.sha256(data).hexdigest()
        if got != digest:
            raise UsageError(f"digest mismatch, expected {digest}, got {got}")
        self.blobs[digest] = data
        return True

    def _checked(self, digest: str) -> str:
        import re

        if not re.fullmatch(r"sha256[:-][0-9a-fA-F]{64}", digest):
            raise UsageError("invalid digest format")
        return digest

    async def close(self, drain: float) -> None:
        return

    def state(self) -> dict[str, Any]:
        """What a test looks at."""
        return {"made": self.worker.made, "closed": self.worker.closed, "leases": self.leases}
