"""Hot start: from a crystal's files to a model that talks from the first planes.

Files are mapped, not copied. Hashing is not on the way (crystal stamps).
"""

from __future__ import annotations

from pathlib import Path

from h2q.codec.pages import PAGE
from h2q.engine.stream import LEAST_KEPT
from h2q.runtime.service import Service
from h2q.runtime.starting import start
from h2q.runtime.worker import Order


class HotStartManager:
    """Starts crystals. Raises CrystalError or TextError when one is missing, damaged or does not
    fit.
    """

    def start(
        self,
        path: Path,
        groups: int | None = None,
        cache: str = "k8v8",
        ring: int = 0,
        ahead: int = 0,
        pin: int | None = None,
        memory: int | None = None,
    ) -> Service:
        """A model for one reader, one answer at a time. It answers as soon as the base planes are
        there and gets better under way, up to the first `groups` refinement groups of a crystal
        (0: base planes alone; None: all). `close` it in the end.

        pin: exactly so many planes from the first token on, which repeats a text bit by bit. cache:
        kind of pages (h2q.codec.pages). ring: positions that asks will keep, so that no more are
        provided for; 0: the whole context. ahead: tokens that the base planes draft; 0: none.
        memory: bytes that this process may have resident; planes, context and rows are chosen to
        fit. Raises ResourceError, with numbers, when nothing does.
        """
        pages = max(-(-ring // PAGE), LEAST_KEPT) + 1  # one more, for sinks turned forward
        context = pages * PAGE if ring else None
        order = Order(str(path), memory, groups, cache, context, streams=1, draft=ahead)
        return Service(order, start(order, pin), alone=True)
