"""Installed models as the orchestrator sees them: cards, folders, and which names mean the same."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from h2q.core.cards import ModelCard
from h2q.core.errors import CrystalError, MissingModelError, UsageError
from h2q.core.files import read_bounded
from h2q.crystal.store import Store
from h2q.crystal.store_names import StoredModel, store_name
from h2q.crystal.template import MAX_BYTES
from h2q.crystal.template import NAME as TEMPLATE

MOST_KNOWN = 1000


@dataclass(frozen=True)
class Installed:
    """A model by one of its names. `key`: the same for all names that one worker can serve."""

    stored: StoredModel
    card: ModelCard
    key: str

    @property
    def name(self) -> str:
        """The name without regard to case."""
        return self.card.name.lower()


class Shelf:
    """Looks models up in a store and remembers what it read while the name's file stays as it is.
    For any thread.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Path, tuple[tuple[int, int, int], Installed]] = {}
        self._lock = threading.Lock()

    def find(self, text: str) -> Installed:
        """Raises MissingModelError, UsageError for no name and what is none, CrystalError when it
        is damaged.
        """
        if not text:
            raise UsageError("A model's name is needed.")
        name = store_name(text)
        path = self.store.place(name)
        if path is None:
            self.store.find(name)  # says so
            raise MissingModelError(f"There is no model {name}.", fix="See `h2q ls`.")
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            state = (0, 0, 0)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == state:
            return known[1]
        made = self._made(self.store.find(name))
        with self._lock:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[path] = (state, made)
        return made

    def all(self) -> list[Installed]:
        """Every model that is whole, the newest first."""
        return [self._made(model) for model in self.store.models()]

    def _made(self, stored: StoredModel) -> Installed:
        own = next((file.sha256 for file in stored.files if file.name == TEMPLATE), None)
        text: str | None = None
        if own is not None and stored.details.template is None:
            data = read_bounded(self.store.blobs.path(own), MAX_BYTES, CrystalError)
            text = data.decode("utf-8", "replace")
        template = stored.details.template
        told = f"{stored.fingerprint} {'-' if template is None else template}"
        key = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()
        return Installed(stored, stored.card(text), key)
