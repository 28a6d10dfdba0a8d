"""What is timed of the engine: prompts and answers through a scheduler, in turns with a peer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from h2q.bench.timing import Timing
from h2q.codec.pages import PAGE
from h2q.core.specs import ModelSpec
from h2q.engine.drafts import Drafter
from h2q.engine.model import Model
from h2q.engine.page_pool import PagePool
from h2q.engine.requests import Request
from h2q.engine.sampling import Sampler
from h2q.engine.scheduler import Scheduler

REST = 0.02  # seconds before each run: threads of both engines spin a while after their work
Prompt = tuple[int, ...]
Run = Callable[[], float]


@dataclass(frozen=True)
class Lengths:
    """Tokens: of the prompt before decoding, decoded, of the prompt that is timed; streams at
    once; of the context whose memory is measured.
    """

    prompt: int = 64
    answer: int = 64
    prefill: int = 512
    streams: int = 8
    context: int = 4096

    @classmethod
    def trial(cls) -> Lengths:
        """The least with which all rows work."""
        return cls(prompt=16, answer=4, prefill=32, streams=3, context=256)

    @property
    def positions(self) -> int:
        """Of the longest stream that is timed."""
        return max(self.prefill + 1, self.prompt + 2 * self.answer + 64)


class Prompts:
    """Random prompts, no two alike, so that none is found in a cache."""

    def __init__(self, spec: ModelSpec, seed: int = 1) -> None:
        self._draw, self._spec = np.random.default_rng(seed), spec

    def next(self, tokens: int) -> Prompt:
        found = self._draw.integers(3, self._spec.vocab_size, tokens)
        return tuple(int(token) for token in found)


class Engine:
    """A model and a cache of pages. Every run is a scheduler of its own, greedy."""

    def __init__(self, model: Model, positions: int, streams: int = 1) -> None:
        self.model = model
        self.pool = PagePool(model.spec, (-(-positions // PAGE) + 1) * streams)
        self.decode([(3,)], 1)  # whatever comes first pays for pages and prepared planes

    def prefill(self, prompt: Prompt) -> float:
        """Seconds to read a prompt and choose the first token."""
        scheduler = Scheduler(self.model, self.pool)
        began = time.perf_counter()
        scheduler.add(Request(prompt, Sampler(temperature=0), 1))
        while scheduler.busy:
            scheduler.step()
        return time.perf_counter() - began

    def decode(
        self, prompts: Sequence[Prompt], steps: int, drafter: Drafter | None = None
    ) -> float:
        """Seconds of a step in which every stream says a token, or, with a drafter, what a round
        of drafts brought; over `steps` of them, all prompts read before.
        """
        scheduler = self.talking(prompts, steps, drafter)
        began = time.perf_counter()
        for _ in range(steps):
            scheduler.step()
        taken = (time.perf_counter() - began) / steps
        end(scheduler, len(prompts))
        return taken

    def talking(
        self, prompts: Sequence[Prompt], steps: int, drafter: Drafter | None = None
    ) -> Scheduler:
        """A scheduler whose streams have each said one token, with room for `steps` steps more."""
        scheduler = Scheduler(self.model, self.pool, drafter=drafter)
        room = 2 + (steps + 1) * (1 + (drafter.ahead if drafter else 0))
        for prompt in prompts:
            scheduler.add(Request(prompt, Sampler(temperature=0), room))
        silent = set(range(len(prompts)))
        while silent:
            silent -= {said.stream for said in scheduler.step()}
        return scheduler


def end(scheduler: Scheduler, streams: int) -> None:
    """Give back the pages of all its streams."""
    for stream in range(streams):
        scheduler.cancel(stream)


def in_turns(runs: Mapping[str, Run], repeats: int) -> dict[str, Timing]:
    """Each run `repeats` times, in turns, the order reversed from round to round; a run returns
    its own seconds. What is run must be warm: the first of all pays for scratch memory and pages.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs.items())
    for turn in range(repeats):
        for name, run in order if turn % 2 == 0 else reversed(order):
            time.sleep(REST)
            times[name].append(run())
    return {n: Timing(min(t), statistics.median(t), len(t)) for n, t in times.items()}
