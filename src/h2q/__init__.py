"""H2Q-Evo: grow a model checkpoint into a crystal whose first bytes already talk.

Public names load on first use; importing the package loads no NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.crystallize import ModelCrystallizationEngine, SpectralStabilityController
    from h2q.demo import Demo
    from h2q.geometry.decision import DiscreteDecisionEngine
    from h2q.orchestrator.orchestrator import ResourceOrchestrator
    from h2q.orchestrator.update import HotUpdate
    from h2q.runtime import HotStartManager, MemoryPool, Worker
    from h2q.server.bridge import OllamaBridge

__all__ = [
    "Demo",
    "DiscreteDecisionEngine",
    "HotStartManager",
    "HotUpdate",
    "MemoryPool",
    "ModelCrystallizationEngine",
    "OllamaBridge",
    "ResourceOrchestrator",
    "SpectralStabilityController",
    "Worker",
    "__version__",
    "geometry",
]

_HOMES = {
    "Demo": "h2q.demo",
    "DiscreteDecisionEngine": "h2q.geometry.decision",
    "HotStartManager": "h2q.runtime",
    "HotUpdate": "h2q.orchestrator.update",
    "MemoryPool": "h2q.runtime",
    "ModelCrystallizationEngine": "h2q.crystallize",
    "OllamaBridge": "h2q.server.bridge",
    "ResourceOrchestrator": "h2q.orchestrator.orchestrator",
    "SpectralStabilityController": "h2q.crystallize",
    "Worker": "h2q.runtime",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # slow to import, rarely asked for

        try:
            return metadata.version("h2q")
        except metadata.PackageNotFoundError:  # run from a source tree without being installed
            return "0+unknown"
    if name == "geometry":
        return importlib.import_module("h2q.geometry")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'h2q' has no attribute {name!r}")
