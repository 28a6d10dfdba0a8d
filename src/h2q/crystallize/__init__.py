"""Floor 6: grow a crystal from a model, measure it, and write down what was measured.

Public names load on first use: whoever only names options loads no engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2q.crystallize.engine import ModelCrystallizationEngine
    from h2q.crystallize.evaluate import Comparison, compare
    from h2q.crystallize.options import Options
    from h2q.crystallize.sampling import sample_text
    from h2q.crystallize.stability import SpectralStabilityController, measure_growth

__all__ = [
    "Comparison",
    "ModelCrystallizationEngine",
    "Options",
    "SpectralStabilityController",
    "compare",
    "measure_growth",
    "sample_text",
]

_HOMES = {
    "Comparison": "evaluate",
    "ModelCrystallizationEngine": "engine",
    "Options": "options",
    "SpectralStabilityController": "stability",
    "compare": "evaluate",
    "measure_growth": "stability",
    "sample_text": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
