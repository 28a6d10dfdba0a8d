"""Pages of keys and values for many streams: counted references, equal beginnings kept once.

A page holds PAGE positions of every layer. Pages are taken and released, never moved; a full page
whose tokens are known by the digest of all tokens up to its end stays findable until its room is
needed. (Kwon et al. 2023, PagedAttention.)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import PAGE, Pages
from h2q.core.errors import ResourceError, UsageError
from h2q.core.specs import ModelSpec
from h2q.core.units import format_bytes
from h2q.engine.cache import cache_shape

Digest = bytes


def digest_page(before: Digest, tokens: Sequence[int]) -> Digest:
    """Of a page's tokens and all before them: 16 bytes."""
    return blake2b(before + np.array(tokens, np.int64).tobytes(), digest_size=16).digest()


class PagePool:
    """`count` pages for a model, of one `kind` (see codec.pages). Arrays become resident when they
    are first written. `root`: what digests begin with; another one where the same tokens give other
    keys (other planes). `zeros(shape, dtype)` makes arrays. Not for several threads at once.
    """

    def __init__(
        self,
        spec: ModelSpec,
        count: int,
        kind: str = "k8v8",
        zeros: Callable[..., npt.NDArray[Any]] = np.zeros,
    ) -> None:
        if count < 1:
            raise UsageError(f"A cache needs one page of {PAGE} positions at least, not {count}.")
        heads, keys, values = cache_shape(spec)
        self.spec, self.count, self.kind = spec, count, kind
        self.root: Digest = b""
        self.layers = [
            Pages.allocate(count, heads, keys, values, kind, zeros)
            for _ in range(spec.num_hidden_layers)
        ]
        self._references = [0] * count
        self._free = deque(range(count))
        self._pages: dict[Digest, int] = {}
        self._digests: dict[int, Digest] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # known, unreferenced, oldest first

    @property
    def free(self) -> int:
        """Pages that can be taken, findable ones among them."""
        return len(self._free) + len(self._idle)

    @property
    def page_bytes(self) -> int:
        """Of one page in all layers."""
        return self.byte_count // self.count

    @property
    def byte_count(self) -> int:
        return sum(layer.byte_count for layer in self.layers)

    def take(self) -> int:
        """A page with one reference; the longest unused findable one is forgotten where there is no
        other. Raises ResourceError when all are in use.
        """
        if self._free:
            page = self._free.popleft()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._pages[self._digests.pop(page)]
        else:
            raise ResourceError(
                f"All {self.count:,} pages of the cache ({format_bytes(self.byte_count)}) are in "
                "use.",
                fix="Give the cache more memory, or run fewer or shorter streams.",
            )
        self._references[page] = 1
        return page

    def release(self, page: int) -> None:
        """Give one reference back."""
        if self._references[page] < 1:
            raise UsageError(f"Page {page} was released more often than it was taken.")
        self._references[page] -= 1
        if self._references[page] == 0:
            if page in self._digests:
                self._idle[page] = None
            else:
                self._free.append(page)

    def remember(self, page: int, digest: Digest) -> None:
        """Let a full page be found. Where another holds the same tokens, that one stays known."""
        if digest not in self._pages and page not in self._digests:
            self._pages[digest] = page
            self._digests[page] = digest

    def find(self, digest: Digest) -> int | None:
        """A page with these tokens and one reference more, or None."""
        page = self._pages.get(digest)
        if page is not None:
            self._idle.pop(page, None)
            self._references[page] += 1
        return page

    def references(self, page: int) -> int:
        return self._references[page]
