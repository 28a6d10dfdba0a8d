"""One stream's tokens and the pages their keys and values lie in.

With `keep` pages, memory stays constant: the first page (attention sinks, Xiao et al. 2023) and the
newest ones are kept, the page behind the first is dropped when a new one is needed. Keys of dropped
positions are gone, all others keep their rotation; the sinks' keys are turned forward by as many
positions as were dropped, so that they stay just before the others, where the model knows them from
training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from h2q.codec.pages import PAGE
from h2q.core.errors import UsageError
from h2q.engine.page_pool import PagePool, digest_page

LEAST_KEPT = 3  # the sinks, a full page, and one being filled


class Stream:
    """`tokens` so far, `stored` of which have keys and values in `pages`. `keep`: pages at most; 0
    for all. Raises UsageError for a ring too small.
    """

    def __init__(self, pool: PagePool, tokens: Sequence[int], keep: int = 0) -> None:
        if keep and keep < LEAST_KEPT:
            raise UsageError(
                f"A ring needs {LEAST_KEPT * PAGE} positions at least, not {keep * PAGE}."
            )
        self.pool, self.keep = pool, keep
        self.tokens = list(tokens)
        self.pages: list[int] = []
        self.stored = 0
        self.dropped = 0
        self.sinks: int | None = None  # the first page as it was written, once a page was dropped
        self._digest = pool.root

    @property
    def held(self) -> int:
        """Positions whose keys can be seen."""
        return self.stored - self.dropped * PAGE

    def find_prefix(self) -> int:
        """Take over pages of equal beginnings, all but the last token at most; their tokens."""
        while self.stored + PAGE < len(self.tokens):
            if self.keep and len(self.pages) == self.keep:
                break
            digest = digest_page(self._digest, self.tokens[self.stored : self.stored + PAGE])
            page = self.pool.find(digest)
            if page is None:
                break
            self.pages.append(page)
            self.stored += PAGE
            self._digest = digest
        return self.stored

    def reach(self, wanted: int) -> int:
        """How many of `wanted` tokens can be stored before a page must be dropped."""
        return min(wanted, self.keep * PAGE - self.held) if self.keep else wanted

    def must_drop(self) -> bool:
        """Whether the next token asks for a page the ring does not have."""
        return bool(self.keep) and self.held == self.keep * PAGE

    def needed(self, count: int) -> int:
        """Pages to take for `count` more tokens."""
        return -(-(self.held + count) // PAGE) - len(self.pages)

    def drop(self) -> int:
        """Drop the page behind the sinks. Returns the page that the sinks, turned forward by
        dropped * PAGE positions, must now be written to, the first of `pages`; the page as it was
        written is `sinks`. Raises ResourceError when the pool is full.
        """
        if self.sinks is None:
            page = self.pool.take()
            self.sinks, self.pages[0] = self.pages[0], page
        self.pool.release(self.pages.pop(1))
        self.dropped += 1
        return self.pages[0]

    def advance(self, count: int) -> None:
        """`count` tokens more have been stored; full pages become findable."""
        for end in range(self.stored + 1, self.stored + count + 1):
            if end % PAGE == 0 and not self.dropped:
                self._know(end - PAGE)
        self.stored += count

    def find_digests(self) -> None:
        """Make the full pages of a stream that was not read here findable."""
        for begin in range(0, 0 if self.dropped else self.stored - PAGE + 1, PAGE):
            self._know(begin)

    def _know(self, begin: int) -> None:
        self._digest = digest_page(self._digest, self.tokens[begin : begin + PAGE])
        self.pool.remember(self.pages[begin // PAGE], self._digest)

    def close(self) -> None:
        """Give all pages back; what was stored is gone, the tokens stay."""
        release(self.pool, self.pages)
        if self.sinks is not None:
            self.pool.release(self.sinks)
        self.pages, self.sinks = [], None
        self.stored = self.dropped = 0
        self._digest = self.pool.root

    def slots(self, begin: int, count: int) -> list[int]:
        """Where `count` tokens from position `begin` on lie: page * PAGE + offset."""
        first = begin - self.dropped * PAGE
        places = range(first, first + count)
        return [self.pages[place // PAGE] * PAGE + place % PAGE for place in places]


def release(pool: PagePool, pages: Iterable[int]) -> None:
    """Give pages back, the last first, so that beginnings are forgotten last."""
    for page in reversed(list(pages)):
        pool.release(page)
