"""Hot start: from a crystal's files to a session, the base planes first.

Files are mapped, not read: a page comes in when a token first needs it. Hashing is not on the way
(crystal stamps).
"""

from __future__ import annotations

import time
from pathlib import Path

from h2q.core.events import StageEvent
from h2q.crystal import crystal_bytes, open_crystal
from h2q.engine import load_crystal
from h2q.engine.drafts import Drafter
from h2q.runtime.session import Session
from h2q.text import Tokenizer


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
    ) -> Session:
        """A session on the first `groups` refinement groups of a crystal (0: base planes alone;
        None: all). cache, ring: see Session. ahead: tokens that the base planes draft; 0: none.
        """
        began = time.perf_counter()
        timeline: list[StageEvent] = []

        def passed(stage: str, size: int = 0) -> None:
            timeline.append(StageEvent(stage, time.perf_counter() - began, size))

        crystal = open_crystal(path)
        passed("open crystal")
        model = load_crystal(crystal, groups)
        passed("bind planes", crystal_bytes(crystal, groups))
        tokenizer = Tokenizer(crystal.tokenizer_path)
        tokenizer.require_fit(crystal.spec.vocab_size)
        passed("read tokenizer")
        drafter = Drafter(load_crystal(crystal, 0), ahead) if ahead else None
        session = Session(model, tokenizer, timeline, cache, ring, drafter)
        session.planes = 1 + (len(crystal.rank) if groups is None else groups)
        return session
