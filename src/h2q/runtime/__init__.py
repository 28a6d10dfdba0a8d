"""Floor 6: keep a crystal alive. Hot start, workers, memory.

Public names load on first use: whoever drives a worker's process loads no engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.runtime.child import Spares
    from h2q.runtime.hot_start import HotStartManager
    from h2q.runtime.local import LocalWorker
    from h2q.runtime.pool import MemoryPool
    from h2q.runtime.remote import ProcessWorker
    from h2q.runtime.service import Service
    from h2q.runtime.worker import Control, Order, Worker, WorkerState

__all__ = [
    "Control",
    "HotStartManager",
    "LocalWorker",
    "MemoryPool",
    "Order",
    "ProcessWorker",
    "Service",
    "Spares",
    "Worker",
    "WorkerState",
]

_HOMES = {
    "Control": "worker",
    "HotStartManager": "hot_start",
    "LocalWorker": "local",
    "MemoryPool": "pool",
    "Order": "worker",
    "ProcessWorker": "remote",
    "Service": "service",
    "Spares": "child",
    "Worker": "worker",
    "WorkerState": "worker",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
