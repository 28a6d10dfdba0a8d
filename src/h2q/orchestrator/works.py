"""Pulling and creating, as a server or a command asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from h2q.core.errors import CrystalError, MissingModelError, UsageError
from h2q.core.model_name import OllamaName
from h2q.crystal.store import Store
from h2q.crystal.store_blobs import plain_digest
from h2q.crystal.store_names import StoredModel, store_name
from h2q.crystallize.options import Options
from h2q.orchestrator.child import work
from h2q.orchestrator.details import on_top
from h2q.orchestrator.house import Recipe, WorkEvent
from h2q.orchestrator.jobs import SOURCES, Job
from h2q.sources.source_files import blob_path

PLAIN, SAFE = "http://", "https://"


@dataclass(frozen=True)
class Access:
    """What may be reached. private: registries at addresses that are not open to the world. paths:
    files of this machine. Both are for the person at the machine, not for whoever reaches a server.
    nice: how far the work stands back behind answers, 0 to 19. options: how crystals grow.
    """

    private: bool = False
    paths: bool = False
    nice: int = 19
    options: Options = field(default_factory=Options)


class Works:
    """Makes models of a store; no server and no worker is needed. Raises UsageError for names that
    are none.
    """

    def __init__(self, store: Store, access: Access) -> None:
        self.store, self.access = store, access

    async def pull(self, name: str, collect: bool = True) -> AsyncGenerator[WorkEvent, None]:
        """See `Orchestrator`. collect: remove what it takes the place of."""
        wanted = pulled_name(name)
        async with aclosing(work(self._job(str(wanted), name, collect=collect))) as events:
            async for event in events:
                yield event

    async def create(
        self, name: str, recipe: Recipe, collect: bool = True
    ) -> AsyncGenerator[WorkEvent, None]:
        """See `Orchestrator` and `pull`."""
        target = store_name(name)
        if not recipe.base and not recipe.files:
            raise UsageError("neither 'from' or 'files' was specified")
        for file, digest in recipe.files:
            if not blob_path(self.store.root / SOURCES, plain_digest(digest.lower())).is_file():
                raise UsageError(f"The blob of {file[:80]} was not uploaded.", where="files")
        found = None if recipe.files else await asyncio.to_thread(self._installed, recipe.base)
        if found is not None:
            async with aclosing(self._renamed(found, target, recipe, collect)) as steps:
                async for event in steps:
                    yield event
            return
        local = not recipe.files and self.access.paths and Path(recipe.base).expanduser().exists()
        base = str(Path(recipe.base).expanduser().resolve()) if local else recipe.base
        if not local and not recipe.files:
            pulled_name(base)
        job = self._job(str(target), base, recipe, local, collect)
        async with aclosing(work(job)) as events:
            async for event in events:
                yield event

    def _installed(self, base: str) -> StoredModel | None:
        try:
            return self.store.find(base)
        except (UsageError, MissingModelError, CrystalError):
            return None

    async def _renamed(
        self, model: StoredModel, target: OllamaName, recipe: Recipe, collect: bool
    ) -> AsyncGenerator[WorkEvent, None]:
        details = await asyncio.to_thread(on_top, model.details, recipe)
        for file in model.files:
            yield WorkEvent(f"using existing layer sha256:{file.sha256}")
        yield WorkEvent("writing manifest")
        await asyncio.to_thread(self.store.rename, model, target, details, collect)
        yield WorkEvent("success")

    def _job(
        self,
        name: str,
        source: str,
        recipe: Recipe | None = None,
        local: bool = False,
        collect: bool = True,
    ) -> Job:
        return Job(
            root=str(self.store.root),
            name=name,
            source=source,
            local=local,
            private=self.access.private,
            nice=self.access.nice,
            recipe=recipe or Recipe(),
            options=self.access.options,
            collect=collect,
        )


def pulled_name(text: str) -> OllamaName:
    """Under which name a pulled model is installed. Raises UsageError."""
    return store_name(text.removeprefix(PLAIN).removeprefix(SAFE))
