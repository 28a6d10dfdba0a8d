"""How the house runs its models, in numbers that a person may set."""

from __future__ import annotations

from dataclasses import dataclass, field

from h2q.runtime.worker import Order


@dataclass(frozen=True)
class Manner:
    """budget: bytes of all models together, None for a share of the free memory. keep_alive:
    seconds a model stays idle, negative for ever. waiting: requests that may wait for models to be
    loaded. room_seconds: they wait for memory. order: how models are run; its crystal, template and
    memory are filled in.
    """

    budget: int | None = None
    keep_alive: float = 300.0
    waiting: int = 512
    room_seconds: float = 60.0
    order: Order = field(default_factory=lambda: Order(""))
