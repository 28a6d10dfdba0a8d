"""Drafts: what a round costs at a real shape, and how many tokens it brings on the seed model.

A round is `ahead` steps of the base planes and one step of all planes over ahead + 1 rows. Its cost
is timed on random codes, with drafts that never stop for doubt; how many of its tokens are said
depends on the words, so it is counted where there are any: on a crystal that speaks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from h2q.codec.pages import PAGE
from h2q.core.architecture import coded as parts_of
from h2q.core.events import ProgressListener, silent
from h2q.crystal import Crystal, open_crystal
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.engine.drafts import Drafter
from h2q.engine.load import load_crystal
from h2q.engine.page_pool import PagePool
from h2q.engine.requests import Request
from h2q.engine.sampling import Sampler
from h2q.engine.scheduler import Scheduler
from h2q.sources import open_source
from h2q.text import Tokenizer

SEED = Path(__file__).parents[1] / "assets" / "seed"
BITS = 4.0  # of the crystal that is grown where none is given
ANSWER = 64
PROMPTS = (
    "The old house stood at the edge of the sea, and",
    "When the king heard this, he",
    "In the year 1850 the town",
    "She opened the letter and read",
    "There are many kinds of animals that",
    "The captain looked at the sky and said",
    "It was a cold morning in the middle of winter when",
    "The river runs through the valley and",
)


@dataclass(frozen=True)
class Acceptance:
    """Tokens said by a round, by how many it drafts; mean bits per weight of the planes that
    draft, and of all.
    """

    tokens: Mapping[int, float]
    draft_bits: float
    all_bits: float


def accepted(
    crystal: Path | None, aheads: tuple[int, ...], progress: ProgressListener = silent
) -> Acceptance:
    """Greedy answers of a crystal, or of one grown from the seed model, its base planes drafting.
    Raises what growing and opening raise.
    """
    if crystal is not None:
        return _accepted(open_crystal(crystal), aheads)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "seed.crystal"
        options = Options(bits=BITS)
        ModelCrystallizationEngine(open_source(SEED), options).grow(target, progress=progress)
        return _accepted(open_crystal(target), aheads)


def _accepted(crystal: Crystal, aheads: tuple[int, ...]) -> Acceptance:
    whole, base = load_crystal(crystal), load_crystal(crystal, 0)
    tokenizer = Tokenizer(crystal.tokenizer_path)
    prompts = [tuple(tokenizer.encode(text)) for text in PROMPTS]
    found = {}
    for ahead in aheads:
        said = rounds = 0
        for prompt in prompts:
            pool = PagePool(crystal.spec, -(-(len(prompt) + ANSWER) // PAGE) + 1)
            scheduler = Scheduler(whole, pool, drafter=Drafter(base, ahead, least=0.0))
            scheduler.add(Request(prompt, Sampler(temperature=0), ANSWER))
            scheduler.step()  # reads the prompt and says the first token
            while scheduler.busy:
                said += sum(1 for told in scheduler.step() if not told.finish)
                rounds += 1
        found[ahead] = said / rounds
    return Acceptance(found, _bits(crystal, 0), _bits(crystal, None))


def _bits(crystal: Crystal, groups: int | None) -> float:
    """Mean bits per coded weight."""
    coded = weights = 0
    for part in parts_of(crystal.spec):
        stack = crystal.planes(part.name, groups)
        size = stack[0].spec.rows * stack[0].spec.cols
        weights += size
        coded += size * sum(plane.spec.bits for plane in stack)
    return coded / weights
