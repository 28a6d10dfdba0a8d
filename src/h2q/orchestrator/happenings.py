"""What happens to models in a house, told where it happens, so that whoever counts need not ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from h2q.runtime.worker import WorkerState

Why = Literal["budget", "idle", "asked", "replaced", "deleted"]


@dataclass(frozen=True)
class Heard:
    """A worker has told how it is: when it was started, while it runs, and before it ends."""

    model: str
    state: WorkerState


@dataclass(frozen=True)
class LetGo:
    """A model gives its memory back: to another ("budget"), as nobody used it for long ("idle"),
    as somebody wished ("asked"), or as its name means another model ("replaced") or none.
    """

    model: str
    why: Why


@dataclass(frozen=True)
class Restarted:
    """A worker was started in the place of one that died."""

    model: str


@dataclass(frozen=True)
class Swapped:
    """A hot update has ended."""

    model: str
    result: Literal["success", "rolled_back"]


Happening = Heard | LetGo | Restarted | Swapped
Hearer = Callable[[Happening], None]


class Crier:
    """Tells everybody who listens, in the thread where it happens."""

    def __init__(self) -> None:
        self.hearers: list[Hearer] = []

    def __call__(self, happening: Happening) -> None:
        for hear in self.hearers:
            hear(happening)
