"""Names of running models that another process gave another meaning, as `h2q create` beside a
server does: the new model is loaded before somebody asks for it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from h2q.core.errors import H2QError

if TYPE_CHECKING:
    from h2q.orchestrator.orchestrator import ResourceOrchestrator

LOG = logging.getLogger("h2q.update")
FOLLOW_SECONDS = 2.0  # between two looks


class Follower:
    """Looks while models run. A request that comes first finds the new model by itself."""

    def __init__(self, house: ResourceOrchestrator) -> None:
        self._house = house
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on, unless it does."""
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._follow())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while self._house.residents.all():
            await asyncio.sleep(FOLLOW_SECONDS)
            for name, keep in self._changed():
                try:
                    async with self._house.lease(name, keep):
                        LOG.info("%s is another model from now on.", name)
                except H2QError as error:
                    LOG.warning("The new model of %s cannot be loaded: %s", name, error)

    def _changed(self) -> list[tuple[str, float]]:
        found = []
        for resident in self._house.residents.all():
            if not resident.ready or resident.gone or resident.keep == 0:
                continue
            for name in resident.names:
                try:
                    key = self._house.found(name).key
                except H2QError:
                    continue  # it has no meaning any more: whoever asks for it is told
                if key != resident.key:
                    found.append((name, resident.keep))
        return found
