"""From an ask to a request of the scheduler: prompt, bounds of the context, sampler, form."""

from __future__ import annotations

import time
from dataclasses import dataclass

from h2q.codec.pages import PAGE
from h2q.core.asks import Ask
from h2q.core.errors import UsageError
from h2q.engine.page_pool import PagePool
from h2q.engine.requests import Request
from h2q.engine.sampling import Sampler
from h2q.engine.stream import LEAST_KEPT
from h2q.runtime.answer import Answer, Names, Reader
from h2q.runtime.forms import Forms
from h2q.runtime.loading import Started
from h2q.runtime.prompts import Prompter

ROOM = 4  # the part of a context that an answer without a bound has, when its prompt is cut
ENDLESS = 10  # contexts that an answer without a bound may fill when the oldest are dropped


@dataclass(frozen=True)
class Prepared:
    """What an ask comes to."""

    request: Request
    answer: Answer


class Asking:
    """Prepares asks for one model; any thread may. Raises UsageError, TextError."""

    def __init__(self, started: Started, pool: PagePool, template: str | None = None) -> None:
        spec = started.model.spec
        self._started, self._spec = started, spec
        self._pages = pool.count
        tokenizer = started.tokenizer
        own = started.chat_template if template is None else lambda: template
        self.prompter = Prompter(tokenizer, spec, own)
        self._forms = Forms(tokenizer, spec.eos_token_ids, spec.vocab_size)
        self._names: Names | None = None

    @property
    def context(self) -> int:
        """Positions that one stream may have."""
        return min(self._spec.max_position_embeddings, self._pages * PAGE)

    def prepare(self, ask: Ask, reader: Reader) -> Prepared:
        asked = time.perf_counter()
        planes = ask.planes
        if planes is not None and not 1 <= planes <= self._started.all_planes:
            raise UsageError(
                f"The model has 1 to {self._started.all_planes} planes, not {planes}.",
                where="planes",
            )
        if ask.context is not None and ask.context < 1:
            raise UsageError("A context has one position at least.", where="context")
        limit = self.context if ask.context is None else min(ask.context, self.context)
        keep = -(-ask.ring // PAGE) if ask.ring else 0
        if keep and not LEAST_KEPT <= keep < self._pages:
            raise UsageError(
                f"A ring has {LEAST_KEPT * PAGE:,} to {(self._pages - 1) * PAGE:,} positions here.",
                where="ring",
            )
        kept = min(limit // PAGE, self._pages - 1)
        shifts = ask.shift and kept >= LEAST_KEPT
        most, cut = ask.sampling.max_tokens, False
        prompt = self.prompter.prompt(
            ask, None if keep else limit, 1 if shifts else room_for(most, limit)
        )
        room = limit - len(prompt.tokens) + 1  # the last token needs no place
        if not keep and shifts and (most is None or most > room):
            keep = kept
        if keep:
            most = ENDLESS * limit if most is None else most
        elif most is None or most > room:
            most, cut = room, True
        tokenizer = self._started.tokenizer
        dialect = prompt.dialect
        form = None
        if ask.form is not None:
            form = self._forms.constraint(ask.form, dialect, prompt.thinks, ask.think is not False)
        ends = frozenset(self._spec.eos_token_ids)
        sampler = Sampler.of(ask.sampling, prompt.tokens)
        request = Request(prompt.tokens, sampler, most, ends, keep, form)
        if ask.sampling.top_logprobs and self._names is None:
            self._names = Names(tokenizer)
        names = self._names if ask.sampling.top_logprobs else None
        stops = ask.sampling.stop
        answer = Answer(prompt, tokenizer, stops, ask.split, cut, reader, names, asked)
        return Prepared(request, answer)


def room_for(most: int | None, limit: int) -> int:
    """Tokens that an answer has behind a prompt that was cut for a context of `limit`: as many as
    are asked for, up to half of it; a fair share where no number is asked for.
    """
    return max(1, limit // ROOM if most is None else min(most, limit // 2))
